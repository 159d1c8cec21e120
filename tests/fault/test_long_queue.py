"""A long queue: no pause, release or cancel makes other clients of Redis wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client import steering
from geodes_tasks.client.steering import Steering
from geodes_tasks.errors import QuotaError
from geodes_tasks.ledger import Claim, Ledger, Limits, News, Request
from geodes_tasks.ledger.connection import Connection
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.tasks import process
from geodes_tasks.transfer.retry import decide
from worker.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from geodes_tasks.ledger import Wakeup
    from geodes_tasks.settings.config import Config

ACCOUNT, BATCH = "default", "long"
COUNT, BLOCK = 20_000, 200
SLOW_S = 0.02
"""Processor seconds of Redis for one call, at most; a busy machine does not change them."""
ENTRY = {"at": "now", "worker": "w", "source": "geodes", "bytes": 0, "transferred": 0, "error": "x"}


def request(number: int, *sources: str) -> Request:
    """Make a request for a file that these sources have."""
    asset = Asset(
        item_id=f"URN:item{number}:V1",
        collection="c",
        key="data",
        title=f"{number}.zip",
        hrefs={source: f"https://{source}.invalid/{number}" for source in sources},
        size_bytes=1000,
        checksum=Checksum("md5", f"{number:032x}"),
    )
    return Request(asset, f"/data/{number}.zip")


class WatchedConnection(Connection):
    """A connection that notes what each script costs Redis."""

    costs: list[tuple[float, str]]

    def run(self, script: str, *args: Any) -> Any:
        """Run a script, and note its cost."""
        before = self.processor_s()
        answer = super().run(script, *args)
        self.costs.append((self.processor_s() - before, script))
        return answer

    def processor_s(self) -> float:
        """Return what Redis has cost so far, this question included."""
        used = self.client.info("cpu")
        return float(used["used_cpu_user_main_thread"] + used["used_cpu_sys_main_thread"])


class Watched(Ledger):
    """A ledger that notes what each script costs Redis."""

    def __init__(self, client: Any) -> None:
        super().__init__(client, Limits(concurrent=4))
        # The parts share the connection: it becomes one that notes.
        self.connection.__class__ = WatchedConnection
        self.costs: list[tuple[float, str]] = []
        vars(self.connection)["costs"] = self.costs

    @property
    def slow(self) -> list[tuple[float, str]]:
        """The calls that others wait too long for; one of a hundred may be the machine's."""
        slow = [one for one in self.costs if one[0] > SLOW_S]
        return slow if len(slow) > len(self.costs) / 100 else []


@pytest.fixture
def long(settings: Config) -> Iterator[Watched]:
    """Give a ledger with a long queue: what needs the portal first, what only S3 has at its end."""
    ledger = Watched(Ledger.of(settings).connection.client)
    kinds = (("geodes",), ("geodes", "s3"), ("s3",))
    requests = [request(n, *kinds[n * len(kinds) // COUNT]) for n in range(COUNT)]
    for first in range(0, COUNT, BLOCK):
        ledger.admission.admit(BATCH, ACCOUNT, requests[first : first + BLOCK], lambda _: None)()
    ledger.dispatch.recover("w", 64)
    ledger.costs.clear()
    yield ledger
    ledger.connection.client.close()


class Mailbox:
    """A sender that keeps what it is given."""

    def __init__(self) -> None:
        """Begin empty."""
        self.sent: list[str] = []

    def send(self, wakeups: Sequence[Wakeup]) -> None:
        """Keep them."""
        self.sent.extend(wakeup.download_id for wakeup in wakeups)


def test_no_call_scans_a_long_queue(
    long: Watched, settings: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker with S3 looks on while things are paused, out and back: each call is short."""
    for name, value in config.environment(settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    monkeypatch.setattr(process, "_processes", [])
    mailbox = Mailbox()
    recovery = Recovery(long, mailbox, "w", 64)  # type: ignore[arg-type] # it sends
    recovery.recover()
    claim = long.leases.claim(mailbox.sent[0], "w")
    assert isinstance(claim, Claim)
    error = QuotaError("href", "exceeds quota limit")
    long.leases.postpone(claim, error, decide(error, 1, "", Config()), ENTRY)
    recovery.recover()
    for shun in (60.0, 0.0):
        long.sources.exchange({"s3": News(offered=True, shun=shun)})
        recovery.recover()
    for kind, name in (("source", "s3"), ("source", "geodes"), ("batch", BATCH)):
        long.control.pause(kind, name, "by hand")
        recovery.recover()
        long.control.resume(kind, name)
        recovery.recover()
    long.control.pause_account(ACCOUNT, "by hand")
    recovery.recover()
    long.control.resume_account(ACCOUNT)
    recovery.recover()

    assert long.slow == []
    # Four places: what was sent first, and what took the place that came free.
    assert len(set(mailbox.sent)) <= 5


def test_a_cancelled_batch_costs_the_next_release_nothing(long: Watched, settings: Config) -> None:
    """Cancelled in blocks; its ready lists go at the next release, whole, and others go on."""
    steering = Steering(settings)
    steering.ledger = long
    withdrawn = steering.cancel(BATCH)
    long.admission.admit("other", ACCOUNT, [request(COUNT, "geodes")], lambda _: None)()

    released = long.dispatch.release()

    assert withdrawn.cancelled == COUNT
    assert [wakeup.title for wakeup in released] == [f"{COUNT}.zip"]
    assert long.connection.client.keys("*:ready:*") == []
    assert long.slow == []


def test_cancelled_files_among_others_are_passed_a_hundred_at_a_time(long: Watched) -> None:
    """All but the last file of a batch are cancelled by name: that one is found, in short calls."""
    ids = list(long.reading.downloads(BATCH))
    last = ids[COUNT // 3 - 10]
    gone = [one for one in ids[: COUNT // 3] if one != last]
    for first in range(0, len(gone), steering.BLOCK):
        long.control.withdraw(BATCH, gone[first : first + steering.BLOCK])

    released = long.dispatch.release()

    assert last in {wakeup.download_id for wakeup in released}
    assert long.slow == []


def test_a_new_run_on_one_machine_costs_short_calls_only(long: Watched) -> None:
    """What the last run left ends in blocks; what the new one enqueues again is sent meanwhile."""
    last = request(COUNT - 1, "geodes", "s3")

    long.control.begin_run([])
    long.control.end_left_overs()
    long.admission.admit("new", ACCOUNT, [last], lambda _: None)()
    long.dispatch.recover("w", 64)
    released = long.dispatch.release()
    while long.control.end_left_overs():
        pass

    ends = [script for _, script in long.costs if script == "end_left_overs"]
    assert [wakeup.title for wakeup in released] == [last.asset.title]
    assert len(ends) >= COUNT // BLOCK
    assert long.slow == []
    assert long.reading.totals().states[State.REVOKED] == COUNT - 1
