"""Every operation of the ledger once, on a filled ledger, while a second client pings."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from geodes_tasks.errors import NoDataAssetError
from geodes_tasks.ledger import Ledger, Progress, Refusal, TapeAnswer
from geodes_tasks.model.states import State
from tests.real.filled import (
    ACCOUNT,
    LIMITS,
    PROOF,
    claimed,
    delay,
    fail,
    finish,
    request_of,
)

BLOCK = 50
"""Downloads in one call of the operations that take many, as in the clients' own blocks."""
SLOW_MS = 20
"""Milliseconds from which a command of Redis is in its SLOWLOG."""
STALLED = 0.01
"""Share of an operation's calls that a machine with other guests may stop for as long."""
OWN = ("config", "info", "ping", "slowlog", "client", "hello", "select", "auth")
"""Commands of the measurement itself."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one operation cost Redis."""

    calls: int
    """Scripts, or commands where the operation runs no script."""
    us: float
    """Microseconds of Redis for each of them, by its own ``commandstats``."""


@dataclass(slots=True)
class Measured:
    """The operations on a ledger of one size."""

    count: int
    costs: dict[str, Cost] = field(default_factory=dict)
    slow: list[str] = field(default_factory=list)
    """A line for each operation of which more than ``STALLED`` of the calls are in SLOWLOG."""
    ping_ms: float = 0.0
    """The longest that the second client waited, in milliseconds."""


class Pinger(threading.Thread, AbstractContextManager["Pinger"]):
    """A second client that pings all the time, and remembers its longest wait."""

    def __init__(self, client: Any) -> None:
        """Prepare; ``with`` starts it."""
        super().__init__(name="pinger", daemon=True)
        self._client, self._ended, self.longest_s = client, threading.Event(), 0.0

    def run(self) -> None:
        """Ping every millisecond."""
        while not self._ended.wait(0.001):
            began = time.perf_counter()
            self._client.ping()
            self.longest_s = max(self.longest_s, time.perf_counter() - began)

    def __enter__(self) -> Self:
        """Start."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop."""
        self._ended.set()
        self.join()


def measure(ledger: Ledger, second: Any, count: int) -> Measured:
    """Do every operation once; ``second`` is the client that pings meanwhile."""
    found, client = Measured(count), ledger.connection.client
    client.config_set("slowlog-log-slower-than", SLOW_MS * 1000)
    with Pinger(second) as pinger:
        for name, operation in operations(ledger):
            client.slowlog_reset()
            client.config_resetstat()
            operation()
            found.costs[name] = cost(client)
            slow = [row["duration"] / 1000 for row in client.slowlog_get(128)]
            if len(slow) > found.costs[name].calls * STALLED:
                found.slow.append(f"{name}: {len(slow)} calls, the longest {max(slow):.0f} ms")
    found.ping_ms = pinger.longest_s * 1000
    return found


def cost(client: Any) -> Cost:
    """Return what was counted since the counters were reset."""
    stats = {
        name.removeprefix("cmdstat_"): row
        for name, row in client.info("commandstats").items()
        if not name.removeprefix("cmdstat_").startswith(OWN)
    }
    # Commands within a script are counted twice, in it and by themselves.
    chosen = [stats["evalsha"]] if "evalsha" in stats else list(stats.values())
    calls = sum(row["calls"] for row in chosen)
    return Cost(calls, sum(row["usec"] for row in chosen) / max(calls, 1))


def operations(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield name and call of each operation; those that destroy most come last."""
    yield from enqueueing(ledger)
    yield from working(ledger)
    yield from watching(ledger)
    yield from steering(ledger)
    yield from tape(ledger)
    yield from keeping(ledger)


def enqueueing(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations of admission."""
    new = [request_of("queued", 10**7 + number) for number in range(BLOCK)]
    done = [request_of("finished", number) for number in range(BLOCK)]
    refused = [
        Refusal(f"URN:{number}", "C", "", NoDataAssetError(f"URN:{number}", "no asset"))
        for number in range(BLOCK)
    ]
    admit, nothing = ledger.admission.admit, lambda _: None
    yield "admit 50 new downloads", lambda: admit("new", ACCOUNT, new, nothing)()
    yield (
        "admit 50 finished downloads again",
        lambda: admit("again", ACCOUNT, done, lambda _: PROOF, known=True)(),
    )
    yield "refuse 50 downloads", lambda: ledger.admission.refuse("new", ACCOUNT, refused)


def working(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations of workers."""
    usual = Ledger(ledger.connection.client, prefix=ledger.connection.prefix)
    # As many as the usual window has; the operations below claim their own.
    yield "release ready downloads", usual.dispatch.release
    ids = iter([request_of("queued", number).download_id for number in range(200, 700)])
    yield "claim a download", lambda: claimed(ledger, next(ids))
    held = [claimed(ledger, next(ids)) for _ in range(16)]
    progress = [Progress(one.download_id, one.token, 10**6) for one in held]
    yield "renew 16 leases", lambda: ledger.leases.renew(progress)
    yield "finish a download", lambda: finish(ledger, next(ids))
    yield "postpone a download", lambda: delay(ledger, next(ids))
    yield "fail a download", lambda: fail(ledger, next(ids))
    yield "register a worker", lambda: ledger.dispatch.register("w1@host", 16)
    yield "count the slots of all workers", lambda: ledger.dispatch.register("w1@host", 8)
    yield "read all workers", ledger.dispatch.workers
    yield "unregister a worker", lambda: ledger.dispatch.unregister("w1@host")
    client, key = ledger.connection.client, ledger.connection.key
    for one in range(2 * BLOCK):
        claim = claimed(ledger, next(ids))
        client.zadd(key("account", ACCOUNT, "leases"), {claim.download_id: one})
    yield "recover 100 dead leases", lambda: ledger.dispatch.recover()
    late = [request_of("delayed", number).download_id for number in range(2 * BLOCK)]
    client.zadd(key("due"), dict.fromkeys(late, 1))
    yield "wake 100 due downloads", lambda: ledger.dispatch.recover()
    sent = client.zrange(key("account", ACCOUNT, "sent"), 0, BLOCK - 1)
    yield "resend lost messages", lambda: ledger.dispatch.resend(ACCOUNT, -1, sent)
    yield "find part files to remove", ledger.retention.litter


def watching(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations that read."""
    reading = ledger.reading
    yield "status of a batch", lambda: reading.status("queued")
    yield "counts of the whole ledger", reading.totals
    yield "names of all batches", reading.batches
    yield "what runs now", reading.running
    yield "what waits, and why", lambda: reading.waits(reading.batches())
    yield "state of all accounts", ledger.account.states
    yield "errors of a batch by class", lambda: reading.failures("failed")
    yield "first that waits for a reason", lambda: reading.first_waiting(["offline"], "offline")
    yield "ids of failed downloads", lambda: list(reading.failed("failed", ["TransferError"]))
    yield "report of a whole batch", lambda: sum(1 for _ in reading.records("finished"))
    yield "batches that finished", ledger.retention.newly_finished


def steering(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations of users."""
    control, account = ledger.control, ledger.account
    failed = [request_of("failed", number).download_id for number in range(BLOCK)]
    yield "retry 50 downloads", lambda: control.retry(failed)
    yield "pause a batch", lambda: control.pause("batch", "queued", "by hand")
    yield "release beside a paused batch", ledger.dispatch.release
    yield "resume a batch", lambda: control.resume("batch", "queued")
    yield "pause an account", lambda: control.pause_account(ACCOUNT, "by hand")
    yield "release of a paused account", ledger.dispatch.release
    yield "resume an account", lambda: control.resume_account(ACCOUNT)
    yield "set a priority", lambda: control.prioritize("queued", 5, 2)
    yield (
        "spend one unit of quota",
        lambda: Ledger(
            ledger.connection.client, LIMITS.__class__(quota_count=50, quota_seconds=3600.0)
        ).account.spend(ACCOUNT),
    )
    yield "poll the portal's quota", lambda: account.begin_quota_poll(ACCOUNT, 60.0)
    yield "cancel a large batch", lambda: cancel_all(ledger, "queued")
    yield "release after a large cancel", ledger.dispatch.release


def cancel_all(ledger: Ledger, batch: str) -> None:
    """Cancel a whole batch in blocks, as the client does."""
    ids = list(ledger.reading.downloads(batch))
    for first in range(0, len(ids), BLOCK):
        ledger.control.withdraw(batch, ids[first : first + BLOCK])
    assert not ledger.reading.status(batch).states[State.PENDING]


def tape(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations of the poll for files on tape."""
    client, key = ledger.connection.client, ledger.connection.key
    client.hset(key("account", ACCOUNT, "poll"), "next", "1")
    ids = [request_of("offline", number).download_id for number in range(BLOCK)]
    answer = TapeAnswer(online=ids[:20], offline=ids[20:40], unknown=ids[40:])
    yield "begin a poll for files on tape", lambda: ledger.offline.begin(ACCOUNT, "w@host")
    yield (
        "record the answer for 50 files on tape",
        lambda: ledger.offline.answer(ACCOUNT, "w@host", answer, 60.0),
    )
    yield "end the poll", lambda: ledger.offline.end(ACCOUNT, "w@host", 60.0, 600.0, 50)


def keeping(ledger: Ledger) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield the operations that remove batches; nothing is left after them."""
    forget = ledger.retention.forget
    yield "forget a large batch", lambda: forget("finished")
    yield "remove its records", ledger.retention.sweep
    yield "forget a cancelled batch", lambda: forget("queued", unfinished=True)
    yield "remove its records, with part files left over", ledger.retention.sweep
    yield "begin a new one-machine run", lambda: ledger.control.begin_run(["geodes"])
    yield "end the downloads of earlier runs", lambda: end_all(ledger)


def end_all(ledger: Ledger) -> None:
    """End the downloads of earlier runs, block by block."""
    while ledger.control.end_left_overs():
        pass
