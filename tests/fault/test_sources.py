"""Two sources: one breaks, ends or refuses, and the file comes over the other; who pays for it."""

from __future__ import annotations

import shlex
import sys
import time
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client.enqueue import enqueue
from geodes_tasks.client.steering import Steering
from geodes_tasks.ledger import News
from geodes_tasks.model.states import State
from geodes_tasks.settings.quota import Quota
from geodes_tasks.settings.secret import Secret
from tests.fault.scene import MiB, Scene, errors_of, is_right, wrong
from tests.integration.s3_server import BUCKET, S3Server
from tests.standin import RangeBehaviour, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KiB = 1024
LARGE = 24 * MiB
TWICE = 8 * MiB
"""So much of a file may be fetched twice when its source breaks."""


@pytest.fixture
def s3() -> Iterator[S3Server]:
    """Start a datalake."""
    with S3Server() as server:
        yield server


@pytest.fixture
def both(scene: Scene, s3: S3Server) -> Scene:
    """Give a cluster whose workers have credentials for the datalake."""
    scene.change(
        s3_endpoint_url=s3.url,
        aws_access_key_id=Secret("key-id"),
        aws_secret_access_key=Secret("canary-secret"),
        s3_again_seconds=300.0,
    )
    return scene


def item_on(
    s3: S3Server, scene: Scene, name: str, size: int = 64 * KiB, content: bytes | None = None
) -> dict[str, Any]:
    """Add an item that is on the portal and, unless ``content`` is empty, in the datalake."""
    key = f"2025/04/02/{name}.zip"
    item = scene.standin.add_item(size, identifier=name, endpoint_url=f"{s3.url}/{BUCKET}/{key}")
    content = read(scene.standin.body(item)) if content is None else content
    if content:
        s3.put(key, content)
    return item


# --- failing over ----------------------------------------------------------------------------


def test_the_datalake_stops_in_the_middle(both: Scene, s3: S3Server) -> None:
    """At 40 % of a file the datalake is gone: the rest comes over HTTP, little of it twice."""
    both.standin.settings.range = RangeBehaviour.GOOD
    item = item_on(s3, both, "STOPPED", LARGE)
    s3.go_wrong(stop_after=int(LARGE * 0.4))
    both.worker("one")

    (record,) = both.settled(both.enqueue(item), 60)

    assert is_right(record), both.logs
    assert record.attempts == 1
    assert set(record.sources) == {"s3", "geodes"}
    assert s3.sent_bytes + both.sent_bytes() - LARGE <= TWICE
    assert sum(record.sources.values()) - LARGE <= TWICE


def test_the_rest_begins_at_zero_where_the_portal_cannot_resume(both: Scene, s3: S3Server) -> None:
    """A portal that answers 500 to every range gives the whole file, in the same attempt."""
    item = item_on(s3, both, "STOPPED", LARGE)
    s3.go_wrong(stop_after=int(LARGE * 0.4))
    both.worker("one")

    (record,) = both.settled(both.enqueue(item), 60)

    assert is_right(record), both.logs
    assert (record.attempts, record.sources["geodes"]) == (1, LARGE)


def test_the_portal_breaks_in_the_middle(both: Scene, s3: S3Server) -> None:
    """The other way round: what the portal breaks off, the datalake ends."""
    item = item_on(s3, both, "CUT", LARGE)
    both.standin.fault(item, "truncate", after=LARGE // 2)
    both.ledger.sources.exchange({"s3": News(shun=60.0, why="so that the portal comes first")})
    both.worker("one")

    (record,) = both.settled(both.enqueue(item), 60)

    assert is_right(record), both.logs
    assert record.attempts == 1
    assert record.sources == {"geodes": LARGE // 2, "s3": LARGE - LARGE // 2}


@pytest.mark.parametrize(
    ("content", "told"), [(b"", "no such object"), (b"wrong" * 100, "bytes there, the catalogue")]
)
def test_what_the_datalake_does_not_have(
    both: Scene, s3: S3Server, content: bytes, told: str
) -> None:
    """An object that is missing, or of another size, is fetched from the portal at once."""
    item = item_on(s3, both, "ELSEWHERE", content=content)
    worker = both.worker("one")

    (record,) = both.settled(both.enqueue(item), 30)

    assert is_right(record), both.logs
    assert (record.attempts, record.source, record.sources) == (1, "geodes", {"geodes": 64 * KiB})
    assert told in worker.text


@pytest.mark.parametrize("status", [301, 307])
def test_a_datalake_that_redirects_is_left(both: Scene, s3: S3Server, status: int) -> None:
    """One request to the datalake, and the portal gives the file in the same attempt."""
    item = item_on(s3, both, "ELSEWHERE")
    s3.go_wrong(status=status, code="PermanentRedirect", headers={"Location": f"{s3.url}/x"})
    both.worker("one")

    (record,) = both.settled(both.enqueue(item), 30)

    assert is_right(record), both.logs
    assert (record.attempts, record.source, len(s3.seen)) == (1, "geodes", 1)


def test_items_may_name_the_datalake_by_another_host(both: Scene, s3: S3Server) -> None:
    """Items name the host of CNES; the settings lead to the same buckets by another one."""
    item = item_on(s3, both, "TUNNEL")
    href = item["properties"]["endpoint_url"]
    item["properties"]["endpoint_url"] = href.replace(s3.url, "https://s3.datalake.cnes.fr")
    both.worker("one")

    (record,) = both.settled(both.enqueue(item), 30)

    assert is_right(record), both.logs
    assert (record.source, both.downloads(item)) == ("s3", 0)


def test_a_corrupt_object(both: Scene, s3: S3Server) -> None:
    """Bytes that do not hash right are fetched from the portal, and cost no attempt."""
    item = item_on(s3, both, "CORRUPT", content=b"x" * 64 * KiB)
    both.worker("one")

    (record,) = both.settled(both.enqueue(item), 30)

    assert is_right(record), both.logs
    assert (record.attempts, record.source) == (1, "geodes")
    assert record.sources == {"geodes": 64 * KiB, "s3": 64 * KiB}


def test_a_token_that_ends_in_the_middle(both: Scene, s3: S3Server, tmp_path: Path) -> None:
    """At 30 % of a file the token ends: one renewal in the worker, no item failed, no portal."""
    script = tmp_path / "assume.py"
    script.write_text(
        "import json, pathlib\n"
        f"calls = pathlib.Path({str(tmp_path / 'calls')!r})\n"
        "with calls.open('a') as out: out.write('x')\n"
        "print(json.dumps({'key': 'k', 'secret': 's', 'token': calls.read_text()}))\n"
    )
    both.change(s3_credentials_command=shlex.join([sys.executable, str(script)]))
    items = [item_on(s3, both, name, 8 * MiB) for name in ("ONE", "TWO", "THREE")]
    s3.go_wrong(end_after=int(8 * MiB * 0.3))
    both.worker("one")

    records = both.settled(both.enqueue(*items), 60)

    assert wrong(records) == [], both.logs
    assert [(one.attempts, one.sources) for one in records] == [(1, {"s3": 8 * MiB})] * 3
    assert (tmp_path / "calls").read_text() == "xx"


# --- out of reach ----------------------------------------------------------------------------


def test_out_of_reach_is_found_out_once(both: Scene, s3: S3Server) -> None:
    """One worker finds out, all leave the datalake alone for a while, every file comes."""
    items = [item_on(s3, both, f"ITEM{number}") for number in range(8)]
    both.change(s3_endpoint_url="http://127.0.0.1:9")
    for item in items:
        href = item["properties"]["endpoint_url"]
        item["properties"]["endpoint_url"] = href.replace(s3.url, "http://127.0.0.1:9")
    first = both.worker("one")
    assert wrong(both.settled(both.enqueue(*items[:4]), 30)) == []
    first.stop()
    second = both.worker("two")

    records = both.settled(both.enqueue(*items[4:]), 30)

    assert wrong(records) == [], both.logs
    assert {one.source for one in records} == {"geodes"}
    assert first.text.count("s3 cannot be used") >= 1
    assert first.text.count("cannot be reached from here: ") - first.text.count("alone") <= 5
    assert "cannot be reached" not in second.text
    assert both.ledger.sources.exchange({})["s3"].shunned_s > 200


def test_a_silent_datalake_costs_seconds_once(both: Scene, s3: S3Server) -> None:
    """Where packets are lost without an answer, one wait of less than three seconds is all."""
    items = [item_on(s3, both, f"ITEM{number}") for number in range(6)]
    # TEST-NET-1 leads nowhere (RFC 5737); some networks refuse it at once.
    both.change(s3_endpoint_url="https://192.0.2.1")
    for item in items:
        href = item["properties"]["endpoint_url"]
        item["properties"]["endpoint_url"] = href.replace(s3.url, "https://192.0.2.1")
    both.worker("one", concurrency=1)
    began = time.monotonic()

    records = both.settled(both.enqueue(*items), 60)

    assert wrong(records) == [], both.logs
    # Six waits of 2.5 s would be fifteen.
    assert time.monotonic() - began < 10


# --- what the datalake serves costs no quota -------------------------------------------------


def test_a_used_up_quota_holds_nothing_that_the_datalake_has(both: Scene, s3: S3Server) -> None:
    """While the portal's window is used up, what is in the datalake comes; the rest waits."""
    both.change(quota=Quota(1, 3600.0))
    first, second = (item_on(s3, both, name, content=b"") for name in ("P1", "P2"))
    both.worker("one")
    both.settled(both.enqueue(first), 30)
    waiting = both.enqueue(second)
    both.until(lambda: waiting.status().waiting.get("quota"), 30, "the quota is used up")
    items = [item_on(s3, both, f"S{number}") for number in range(3)]

    records = both.settled(both.enqueue(*items), 60)

    assert wrong(records) == [], both.logs
    assert {one.source for one in records} == {"s3"}
    # It is tried over the datalake once more meanwhile, which costs nothing.
    both.until(lambda: waiting.status().waiting == {"quota": 1}, 30, "the other one waits")
    assert both.downloads(second) == 0


def test_a_paused_key_holds_nothing_that_the_datalake_has(both: Scene, s3: S3Server) -> None:
    """A refused key pauses the portal alone; what S3 lacks waits and nothing asks for it."""
    both.standin.fault(None, "bad_key", answer="401")
    portal_only = item_on(s3, both, "P", content=b"")
    both.worker("one")
    paused = both.enqueue(portal_only)
    both.until(lambda: paused.status().waiting.get("auth"), 30, "the key was refused")
    here, lacking = item_on(s3, both, "HERE"), item_on(s3, both, "LACKING", content=b"")

    batch = both.enqueue(lacking, here)
    both.until(lambda: batch.status().states["SUCCESS"], 60, "what S3 has is here")
    both.until(lambda: batch.status().waiting.get("auth"), 30, "what it lacks waits")

    states = {one.item_id: one for one in batch.results()}
    assert states[here["id"]].source == "s3"
    assert states[lacking["id"]].state is State.RETRY
    assert "no such object" in str(states[lacking["id"]].history)
    assert both.downloads(lacking) == 0
    assert not any("WorkerLost" in error for one in states.values() for error in errors_of(one))


@pytest.mark.slow
def test_one_limit_for_both_sources_while_the_portal_is_paused(both: Scene, s3: S3Server) -> None:
    """When an account is paused with transfers under way, S3 adds none beyond the limit."""
    both.change(max_concurrent=4)
    both.standin.settings.change(latency_s=4.0)
    s3.go_wrong(latency_s=0.2)
    portal = both.items(8, KiB)
    over_s3 = [item_on(s3, both, f"S{number}", KiB) for number in range(24)]
    for name in ("one", "two"):
        both.worker(name, concurrency=8)
    waiting = both.enqueue(*portal)
    both.until(lambda: len(both.standin.downloads()) == 4, 30, "four transfers are under way")
    both.ledger.account.pause(both.settings.account, "quota", 3600.0)

    records = both.settled(both.enqueue(*over_s3), 60)

    assert wrong(records) == [], both.logs
    assert {one.source for one in records} == {"s3"}
    assert len(both.standin.downloads()) == 4
    spans = [(one.started_at, one.finished_at or time.time()) for one in both.standin.downloads()]
    spans += s3.spans
    moments = sorted(moment for began, ended in spans for moment in ((began, 1), (ended, -1)))
    # Ended before begun at the same moment: -1 sorts first.
    assert max(accumulate(step for _, step in moments)) <= 4
    assert waiting.status().states["SUCCESS"] == 4


def test_an_account_held_by_hand_is_held(both: Scene, s3: S3Server) -> None:
    """A person who pauses an account means all of it."""
    Steering(both.settings).pause("account", both.settings.account)
    both.worker("one")
    batch = both.enqueue(item_on(s3, both, "HELD"))
    # The worker is alive and takes work meanwhile: that of another account.
    other = both.settings.replace(account="other")
    done = enqueue([item_on(s3, both, "FREE")], conf=other)
    both.settled(done, 30)
    assert batch.status().states["PENDING"] == 1

    Steering(both.settings).resume("account", both.settings.account)
    assert wrong(both.settled(batch, 30)) == []
