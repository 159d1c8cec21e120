"""Reading a batch of 100,000 failed downloads: errors at once, reports with flat memory."""

from __future__ import annotations

import time
import tracemalloc
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.client.exit_codes import TRANSIENT, exit_code
from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.redis_client import connect
from geodes_tasks.monitoring.reports import Format, lines
from geodes_tasks.settings import config
from tests.fault.test_lease_keeper import ChosenServer
from tests.real.filled import LIMITS, ORIGINALS, Filler, bring, request_of
from tests.real.test_sizes import wheel_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

COUNT, BATCH = 100_000, "failed"
MOST_S = 0.2
"""Seconds to read the errors of a batch, at most: it reads a few entries of each class."""
SEARCH_S = 4.0
"""Seconds to search a batch for a file or an item, at most: 1.3 to 2.6 s by the machine, and three
times as much where each record is sent."""
MOST_BYTES = 8 * 2**20
"""Bytes that a reader may have at once: some blocks of records, whatever the batch has."""
pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """Return a ledger with one batch of failed downloads."""
    with ChosenServer(tmp_path_factory.mktemp("reading"), wheel_server()) as server:
        ledger = Ledger(connect(config.load(redis_url=server.url)), LIMITS)
        bring(ledger, BATCH, range(ORIGINALS))
        Filler(ledger, BATCH, ORIGINALS).fill(COUNT)
        yield ledger


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of the best of three runs: others use the machine too."""
    took = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took)


def peak_bytes(rows: Iterable[object]) -> int:
    """Return the most bytes that Python had at once while it read rows and kept none."""
    tracemalloc.start()
    # Tracing takes ten times as long as reading; forty blocks show whether memory grows.
    deque(islice(rows, COUNT // 5), maxlen=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def test_the_errors_of_a_large_batch_are_read_at_once(ledger: Ledger) -> None:
    """So are the exit code and what watch shows."""
    reading = ledger.reading
    took_s = timed(lambda: exit_code(reading.status(BATCH), reading.failures(BATCH)))
    (group,) = reading.failures(BATCH)
    print(f"\nerrors and exit code of {COUNT} failed downloads: {took_s * 1000:.1f} ms")

    assert group.count == COUNT
    assert exit_code(reading.status(BATCH), reading.failures(BATCH)) == TRANSIENT
    assert took_s < MOST_S


@pytest.mark.parametrize("reader", ["failed", "downloads", "report"])
def test_a_large_batch_is_read_with_flat_memory(ledger: Ledger, reader: str) -> None:
    """Ids to retry or cancel, and a report, take some blocks of memory."""
    reading = ledger.reading
    rows: dict[str, Callable[[], Iterable[object]]] = {
        "failed": lambda: reading.failed(BATCH),
        "downloads": lambda: reading.downloads(BATCH),
        "report": lambda: lines(reading.records(BATCH), Format.JSONL),
    }
    began = time.perf_counter()
    number = sum(1 for _ in rows[reader]())
    took_s = time.perf_counter() - began
    peak = peak_bytes(rows[reader]())
    print(f"\n{reader}: {number} in {took_s:.1f} s, at most {peak / 2**20:.1f} MiB")

    assert number == COUNT
    assert peak < MOST_BYTES


def test_one_item_of_a_large_batch_is_found(ledger: Ledger) -> None:
    """By its id at once, by file or item in a second: the server searches the batch."""
    request = request_of(BATCH, COUNT - 1)
    identifier, file = request.download_id, Path(request.path).name
    took_s = {
        name: timed(lambda name=name: ledger.reading.named(BATCH, [name]))  # type: ignore[misc] # bound
        for name in (identifier, file, request.asset.item_id)
    }
    print("", *(f"found {name} of {COUNT}: {s:.2f} s" for name, s in took_s.items()), sep="\n")

    assert all(ledger.reading.named(BATCH, [name]) == [identifier] for name in took_s)
    assert took_s[identifier] < MOST_S
    assert max(took_s.values()) < SEARCH_S
