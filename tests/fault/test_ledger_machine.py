"""The ledger against a simple model: no order of events breaks what it promises."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from geodes_tasks.errors import LeaseLostError, TransferError
from geodes_tasks.ledger import (
    Claim,
    Ledger,
    Limits,
    News,
    Progress,
    Renewal,
    Request,
    Verdict,
    Withdrawn,
)
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import Decision, DownloadResult, Proof
from geodes_tasks.model.states import ACTIVE, Outcome, Reason, State
from tests.fault.counting import counters, recount
from tests.fault.ledger_model import WAITS_FOR_ITS_TURN, Model, Row

if TYPE_CHECKING:
    from collections.abc import Callable

ACCOUNT = "default"
BATCHES = ("one", "two")
LIMITS = Limits(concurrent=2, window=3, max_attempts=2, lease_seconds=1000)
PROOF = Proof(1000, 1, 1)
LATER_S, ERROR = 1000.0, TransferError("https://portal.invalid/file", "it broke")
ENTRY = {"at": "2025-01-01T00:00:00+00:00", "worker": "w", "transferred": 7, "error": "broken"}


def request(
    number: int, path: str, size_bytes: int | None = 1000, sources: str = "geodes"
) -> Request:
    """Make a request whose bytes differ from those of every other number."""
    asset = Asset(
        item_id="URN:item:V1",
        collection="c",
        key="data",
        title="file.zip",
        hrefs={source: f"https://{source}.invalid/{number}" for source in sources.split("+")},
        size_bytes=size_bytes,
        checksum=Checksum("md5", f"{number:032x}"),
    )
    return Request(asset, path)


# The last two are two versions of one item and share a path.
REQUESTS = {
    one.download_id: one
    for one in (
        request(1, "/a"),
        request(2, "/b", sources="geodes+s3"),
        request(3, "/c", sources="s3"),
        request(4, "/c", sources="geodes+s3"),
    )
}
IDS = tuple(REQUESTS)
SOME = st.lists(st.sampled_from(IDS), min_size=1, unique=True)


def result_of(request_: Request) -> DownloadResult:
    """Give what the engine would say of the finished file."""
    return DownloadResult(
        outcome=Outcome.DOWNLOADED,
        path=request_.path,
        size_bytes=1000,
        checksum=request_.asset.checksum,
        verified=True,
        bytes_transferred=1000,
        source="geodes",
        proof=PROOF,
    )


def dump(ledger: Ledger) -> dict[str, Any]:
    """Read every key, whatever its type."""
    readers: dict[str, Callable[[str], Any]] = {
        "string": ledger.connection.client.get,
        "hash": ledger.connection.client.hgetall,
        "list": lambda key: ledger.connection.client.lrange(key, 0, -1),
        "set": ledger.connection.client.smembers,
        "zset": lambda key: ledger.connection.client.zrange(key, 0, -1, withscores=True),
    }
    return {
        key: readers[ledger.connection.client.type(key)](key)
        for key in ledger.connection.client.keys("*")
    }


def reachable(ledger: Ledger) -> set[str]:
    """Name all downloads that something will start or end without anybody asking again."""
    client, key = ledger.connection.client, ledger.connection.key
    found = set(client.zrange(key("due"), 0, -1))
    for part in ("leases", "sent"):
        found |= set(client.zrange(key("account", ACCOUNT, part), 0, -1))
    for batch in client.zrange(key("account", ACCOUNT, "ring"), 0, -1):
        for sources in ("geodes", "geodes+s3", "s3"):
            found |= set(client.lrange(key("batch", batch, "ready", sources, ACCOUNT), 0, -1))
    return found


class LedgerMachine(RuleBasedStateMachine):
    """Everything that clients, workers, clocks and a forgetful broker can do to the ledger."""

    claims = Bundle("claims")

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self.ledger = ledger
        self.highest = self.run_number = 0
        self.model = Model(
            LIMITS.concurrent,
            LIMITS.max_attempts,
            {
                one: Row(request_.path, "+".join(request_.asset.hrefs))
                for one, request_ in REQUESTS.items()
            },
        )

    @initialize()
    def wipe(self) -> None:
        """Begin with an empty server."""
        self.ledger.connection.client.flushdb()

    def noted(self, wakeups: list[Any]) -> None:
        """Check that only what may start gets a message, and remember the messages."""
        for wakeup in wakeups:
            row = self.model.rows[wakeup.download_id]
            assert row.state in WAITS_FOR_ITS_TURN
            assert row.due is None
            assert wakeup.download_id not in self.model.sent
            self.model.sent.add(wakeup.download_id)
            # A list of the sources that it had before may have it too: its claim waits.
            assert self.model.is_open(wakeup.download_id) or row.sources != row.could
        assert len(self.model.sent) <= LIMITS.window

    # --- clients -----------------------------------------------------------------------------

    @rule(batch=st.sampled_from(BATCHES), ids=SOME, unchanged=st.booleans())
    def admit(self, batch: str, ids: list[str], *, unchanged: bool) -> None:
        """Ask for downloads, new ones or known ones."""
        batch = f"{batch}-{self.run_number}"
        requests = [REQUESTS[one] for one in ids]
        foreseen = self.model.admit(batch, ids, unchanged=unchanged)

        answers = self.ledger.admission.admit(
            batch, ACCOUNT, requests, lambda _: PROOF if unchanged else None
        )()

        assert {answer.download_id: answer.admission for answer in answers} == foreseen

    @rule(ids=SOME)
    def cancel(self, ids: list[str]) -> None:
        """Cancel, in whatever state they are."""
        assert self.ledger.control.cancel(ids) == self.model.cancel(ids)

    @rule(batch=st.sampled_from(BATCHES), ids=SOME)
    def withdraw(self, batch: str, ids: list[str]) -> None:
        """Cancel what one batch asks for; what another one asks for too goes on."""
        batch = f"{batch}-{self.run_number}"
        cancelled, left = self.model.withdraw(batch, ids)
        assert self.ledger.control.withdraw(batch, ids) == Withdrawn(cancelled, left)

    @rule(batch=st.sampled_from(BATCHES))
    def retry_failed(self, batch: str) -> None:
        """Ask again for all that failed in a batch, as its list of errors has them."""
        batch = f"{batch}-{self.run_number}"
        kinds = ("TransferError", "WorkerLostError")
        ids = list(self.ledger.reading.failed(batch, kinds))
        failed = {
            one
            for one, row in self.model.rows.items()
            if row.state is State.FAILURE and batch in row.batches
        }
        assert set(ids) == failed
        assert self.ledger.control.retry(ids) == self.model.again(ids)

    @rule(batch=st.sampled_from(BATCHES), swept=st.booleans())
    def forget(self, batch: str, *, swept: bool) -> None:
        """Forget a batch while some of it runs; its name may be used again at once."""
        batch = f"{batch}-{self.run_number}"
        if batch in self.ledger.reading.batches():
            self.withdraw(batch.partition("-")[0], list(self.ledger.reading.downloads(batch)))
            self.ledger.retention.forget(batch, unfinished=True)
            self.model.forget(batch)
        if swept:
            self.sweep()

    @rule()
    def sweep(self) -> None:
        """Remove the records of forgotten batches; workers sweep the part files before."""
        for _ in range(2):
            self.ledger.retention.litter()
            self.ledger.retention.sweep()
        self.model.sweep(keeps_proofs=self.run_number > 0)

    @rule(ids=SOME)
    def again(self, ids: list[str]) -> None:
        """Ask again for what failed, was cancelled or waits."""
        known = [one for one in ids if self.model.rows[one].batches]
        assert self.ledger.control.retry(known) == self.model.again(known)

    @rule()
    def release(self) -> None:
        """Choose what gets a message."""
        self.noted(self.ledger.dispatch.release())

    @precondition(lambda self: self.model.paused)
    @rule()
    def resume(self) -> None:
        """Let the account go on."""
        assert self.ledger.control.resume_account(ACCOUNT)
        self.model.resume()

    @rule()
    def pause(self) -> None:
        """Pause the account by hand."""
        assert self.ledger.control.pause_account(ACCOUNT, "by hand") == (not self.model.by_hand)
        self.model.paused = self.model.by_hand = True

    @rule()
    def portal_refuses(self) -> None:
        """Have the account ask nothing of the portal until it is resumed."""
        assert self.ledger.account.pause(ACCOUNT, "key", None) == (not self.model.paused)
        self.model.paused = True

    # --- workers -----------------------------------------------------------------------------

    @rule(target=claims, one=st.sampled_from(IDS))
    def claim(self, one: str) -> Any:
        """Claim, because of a message, a twin of it, or none at all."""
        foreseen = self.model.verdict(one)

        answer = self.ledger.leases.claim(one, "worker")

        claim = answer if isinstance(answer, Claim) else None
        self.model.claimed(one, foreseen, claim)
        if claim is None:
            assert answer == foreseen
            return multiple()
        assert foreseen is Verdict.GRANTED
        assert claim.attempt == self.model.rows[one].attempts
        assert int(claim.token) > self.highest, "a token fell"
        self.highest = int(claim.token)
        return claim

    @rule(out=st.sampled_from([None, 0.0, LATER_S]))
    def offer(self, out: float | None) -> None:
        """Offer S3, and sometimes find that it is out of reach or works again."""
        self.ledger.sources.exchange({"s3": News(offered=True, shun=out, why="out")})
        self.model.s3_offered = True
        if out is not None:
            self.model.s3_out = out > 0

    @rule(claim=claims, done_bytes=st.sampled_from([-1, 0, 400, 900]))
    def renew(self, claim: Claim, done_bytes: int) -> None:
        """Renew a lease, one's own or one that another has by now."""
        before = dump(self.ledger)
        foreseen = self.model.renewal(claim)
        progress = Progress(claim.download_id, claim.token, done_bytes, "geodes")

        assert self.ledger.leases.renew([progress]) == [foreseen]
        if foreseen is not Renewal.OK:
            assert dump(self.ledger) == before, "a fenced token changed something"

    def settle(self, claim: Claim, record: Callable[[], list[Any]]) -> bool:
        """Record, and tell whether it was accepted; a fenced token must change nothing."""
        if self.model.holds(claim):
            released = record()
            self.model.rows[claim.download_id].holder = None
            self._released = released
            return True
        before = dump(self.ledger)
        with pytest.raises(LeaseLostError, match=claim.download_id):
            record()
        assert dump(self.ledger) == before, "a fenced token changed something"
        return False

    @rule(claim=consumes(claims))
    def succeed(self, claim: Claim) -> None:
        """Record a proven file."""
        result = result_of(REQUESTS[claim.download_id])
        if self.settle(claim, lambda: self.ledger.leases.finish(claim, result)):
            row = self.model.rows[claim.download_id]
            row.move(State.SUCCESS, outcome=Outcome.DOWNLOADED)
            self.noted(self._released)

    @rule(
        claim=consumes(claims),
        delay_s=st.sampled_from([0.0, LATER_S]),
        counted=st.booleans(),
        pause=st.booleans(),
        held=st.sampled_from([None, "geodes"]),
    )
    def postpone(
        self, claim: Claim, delay_s: float, held: str | None, *, counted: bool, pause: bool
    ) -> None:
        """Record that the download waits, sometimes for the portal, and that its account does."""
        reason = Reason.AUTH if pause else Reason.BACKOFF
        why = "key" if pause else None
        decision = Decision(True, reason, delay_s, counted, pause=why, held=held)
        if self.settle(
            claim, lambda: self.ledger.leases.postpone(claim, ERROR, decision, dict(ENTRY))
        ):
            row = self.model.rows[claim.download_id]
            row.move(State.REVOKED if row.cancelled else State.RETRY)
            if not row.cancelled:
                row.due = "later" if delay_s else None
                row.attempts -= not counted
                self.model.paused |= pause
                row.refused = pause
                row.sources = held or row.sources
            row.cancelled = False
            self.noted(self._released)

    @rule(claim=consumes(claims))
    def fail(self, claim: Claim) -> None:
        """Record an end with an error."""
        if self.settle(claim, lambda: self.ledger.leases.fail(claim, ERROR, dict(ENTRY))):
            self.model.rows[claim.download_id].move(State.FAILURE)
            self.noted(self._released)

    @rule(claim=consumes(claims))
    def revoke(self, claim: Claim) -> None:
        """Record that a cancelled attempt has stopped; enqueued meanwhile it begins anew."""
        if self.settle(claim, lambda: self.ledger.leases.revoke(claim)):
            row = self.model.rows[claim.download_id]
            row.move(State.REVOKED if row.cancelled else State.RETRY)
            row.attempts -= not row.cancelled
            row.cancelled = False
            self.noted(self._released)

    # --- time, death and loss ----------------------------------------------------------------

    @rule(claim=claims)
    def expire(self, claim: Claim) -> None:
        """Let a lease run out."""
        if self.model.holds(claim):
            leases = self.ledger.connection.key("account", ACCOUNT, "leases")
            self.ledger.connection.client.zadd(leases, {claim.download_id: 1.0})
            self.model.rows[claim.download_id].expired = True

    @rule(one=st.sampled_from(IDS))
    def wait_passes(self, one: str) -> None:
        """Let a due time come."""
        if self.model.rows[one].due:
            self.ledger.connection.client.zadd(self.ledger.connection.key("due"), {one: 1.0})
            self.model.rows[one].due = "past"

    @rule()
    def recover(self) -> None:
        """Look after the dead and the due, as every worker does."""
        assert self.ledger.dispatch.recover("worker", 1) == self.model.recover()

    @rule(ids=SOME)
    def resend(self, ids: list[str]) -> None:
        """Find that the broker has lost messages."""
        lost = [one for one in ids if one in self.model.sent]
        if lost:
            assert self.ledger.dispatch.resend(ACCOUNT, 0, lost) == len(lost)
            self.model.sent -= set(lost)

    # --- what always holds -------------------------------------------------------------------

    @invariant()
    def the_records_are_the_models(self) -> None:
        """Each download is in the state, with the attempts, that the model foresees."""
        for one, row in self.model.rows.items():
            record = self.ledger.reading.record(one)
            assert (record.state if record else None) == row.state
            if record is not None:
                assert (record.outcome, record.attempts) == (row.outcome, row.attempts)

    @invariant()
    def counters_are_a_recount(self) -> None:
        """The counters of each batch are what counting its records gives."""
        for batch in self.ledger.reading.batches():
            expected = recount(self.ledger, batch)
            assert counters(self.ledger, batch) == Counter(
                {name: number for name, number in expected.items() if number}
            )
            members = {one for one, row in self.model.rows.items() if batch in row.batches}
            assert set(self.ledger.reading.downloads(batch)) == members

    @invariant()
    def one_holder_at_most(self) -> None:
        """Leases are held by exactly the downloads that run, within the account's places."""
        leases = self.ledger.connection.client.zrange(
            self.ledger.connection.key("account", ACCOUNT, "leases"), 0, -1
        )
        started = {one for one, row in self.model.rows.items() if row.state is State.STARTED}
        assert set(leases) == started
        assert len(leases) <= LIMITS.concurrent

    @invariant()
    def nothing_is_out_of_reach(self) -> None:
        """What is unfinished is leased, due, sent, or in a ready list that has its turn."""
        active = {
            one for one, row in self.model.rows.items() if row.state in ACTIVE and row.batches
        }
        assert active <= reachable(self.ledger)

    @invariant()
    def messages_are_accounted_for(self) -> None:
        """The ledger knows each message that is on its way."""
        sent = self.ledger.connection.client.zrange(
            self.ledger.connection.key("account", ACCOUNT, "sent"), 0, -1
        )
        assert set(sent) == self.model.sent


class NewRunMachine(LedgerMachine):
    """The same with new beginnings of a private server between."""

    @rule(
        kills=st.lists(st.integers(0, 4), max_size=2),
        before=st.integers(0, 4),
        batch=st.sampled_from(BATCHES),
        ids=SOME,
    )
    def new_run(self, kills: list[int], before: int, batch: str, ids: list[str]) -> None:
        """Begin anew as one-machine mode does at each start, killed in the middle some times.

        The new run enqueues downloads before all old ones have ended.
        """
        for blocks in [*kills, before]:
            self.ledger.control.begin_run(["geodes"])
            assert self.ledger.reading.running() == []
            for _ in range(blocks):
                self.ledger.control.end_left_overs(1)
        self.model.new_run()
        self.run_number += 1
        self.admit(batch, ids, unchanged=True)
        while self.ledger.control.end_left_overs(1):
            pass


def run(machine: type[LedgerMachine], ledger: Ledger, examples: int) -> None:
    """Try many orders of events on one server; the same ones each time."""
    profile = settings(
        max_examples=examples,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
        derandomize=True,
        # Shrinking takes minutes, beyond every timeout; forty steps can be read as they are.
        phases=[Phase.generate],
    )
    # Its annotation asks for a class; any callable that makes a machine does.
    run_state_machine_as_test(lambda: machine(ledger), settings=profile)  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", [LedgerMachine, NewRunMachine])
def test_no_order_of_events_breaks_the_ledger(machine: type[LedgerMachine]) -> None:
    """No sequence of admit, claim, renew, expire, record, cancel, again breaks an invariant."""
    ledger = Ledger(fakeredis.FakeRedis(decode_responses=True), LIMITS)

    run(machine, ledger, 30)


@pytest.mark.parametrize("machine", [LedgerMachine, NewRunMachine])
def test_no_order_of_events_breaks_the_ledger_on_a_real_server(
    machine: type[LedgerMachine], redis_url: str
) -> None:
    """The same on a server of the Redis protocol, whose Lua is the one that counts."""
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    ledger = Ledger(client, LIMITS)

    run(machine, ledger, 15)

    client.close()


@pytest.mark.chaos
@pytest.mark.parametrize("machine", [LedgerMachine, NewRunMachine])
def test_many_orders_of_events(machine: type[LedgerMachine], redis_url: str) -> None:
    """The same, a thousand times."""
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    ledger = Ledger(client, LIMITS)

    run(machine, ledger, 1000)

    client.close()


# --- cases that the machine keeps away from ---------------------------------------------------


@pytest.fixture
def small(fake_ledger: Ledger) -> Ledger:
    """Give a ledger in memory with room for everything."""
    return Ledger(fake_ledger.connection.client, Limits(concurrent=8, window=8))


def agree(ledger: Ledger, batch: str) -> None:
    """Check the counters of a batch against its records."""
    expected = recount(ledger, batch)
    assert counters(ledger, batch) == Counter({n: v for n, v in expected.items() if v})


def test_batch_name_used_again_after_a_new_beginning(small: Ledger) -> None:
    """A batch that is named as a forgotten one was counts each download once."""
    one = request(1, "/a")
    small.admission.admit("b", ACCOUNT, [one], lambda _: None)()
    small.control.begin_run([])

    small.admission.admit("b", ACCOUNT, [one], lambda _: None)()

    agree(small, "b")


def test_size_that_the_catalogue_does_not_know(small: Ledger) -> None:
    """A file of unknown size that is asked for, had, lost and asked for again counts once."""
    one = request(1, "/a", None)
    for _ in range(2):
        small.admission.admit("b", ACCOUNT, [one], lambda _: None)()
        claim = small.leases.claim(one.download_id, "w")
        assert isinstance(claim, Claim)
        small.leases.finish(claim, result_of(one))

    agree(small, "b")


def test_batch_shared_by_two_accounts(small: Ledger) -> None:
    """A paused account holds up its own downloads alone, also in a batch that two share."""
    mine, other = request(1, "/a"), request(2, "/b")
    small.admission.admit("b", "paused", [other], lambda _: None)()
    small.connection.client.hset(
        small.connection.key("account", "paused"), "paused_until", "resume"
    )

    small.admission.admit("b", "free", [mine], lambda _: None)()

    assert [one.download_id for one in small.dispatch.release()] == [mine.download_id]
