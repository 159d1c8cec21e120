"""What the ledger should do, in plain Python: one table of states and a few sets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from geodes_tasks.ledger import Admission, Renewal, Verdict
from geodes_tasks.model.states import ACTIVE, Outcome, State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from geodes_tasks.ledger import Claim

WAITS_FOR_ITS_TURN = (State.PENDING, State.RETRY)


@dataclass
class Row:
    """One download as the model knows it."""

    path: str
    could: str = "geodes"
    """The set of sources that can serve it, as it was asked for."""
    sources: str = ""
    """The same as it is known now."""
    state: State | None = None
    outcome: Outcome | None = None
    attempts: int = 0
    batches: list[str] = field(default_factory=list)
    holder: Claim | None = None
    """Whoever may record; a lease that ran out is still good until somebody ends it."""
    cancelled: bool = False
    expired: bool = False
    due: str | None = None
    """``later`` or ``past`` while it waits for a time."""
    refused: bool = False
    """It waits for another key."""
    forgotten: bool = False
    """A batch that had it was forgotten, and its record was not looked at since."""

    def move(self, state: State, *, outcome: Outcome | None = None) -> None:
        """Change the state; every move ends a wait and a lease."""
        self.state, self.outcome = state, outcome
        self.due, self.holder, self.expired = None, None, False
        self.refused = False

    def begin(self) -> None:
        """Be asked for, from nothing or anew."""
        self.move(State.PENDING)
        self.attempts, self.cancelled = 0, False


@dataclass
class Model:
    """The ledger of one account."""

    concurrent: int
    max_attempts: int
    rows: dict[str, Row]
    owners: dict[str, str] = field(default_factory=dict)
    """Final path to the download that was last begun there."""
    sent: set[str] = field(default_factory=set)
    paused: bool = False
    """The account asks nothing of the portal."""
    by_hand: bool = False
    """Nor of S3, while it is paused."""
    s3_offered: bool = False
    s3_out: bool = False
    earlier: set[str] = field(default_factory=set)
    """Batches of earlier runs: a download leaves them when it is enqueued again."""

    def is_open(self, one: str) -> bool:
        """Tell whether a source can be asked for a download now."""
        if self.paused and self.by_hand:
            return False
        over_s3 = self.s3_offered and not self.s3_out
        match self.rows[one].sources:
            case "s3":
                return not self.s3_out and (over_s3 or not self.paused)
            case "geodes+s3":
                return over_s3 or not self.paused
        return not self.paused

    # --- asked for ---------------------------------------------------------------------------

    def admit(self, batch: str, ids: Iterable[str], *, unchanged: bool) -> dict[str, Admission]:
        """Foresee the answers; files proven before are asked about after all the others."""
        proven, answers = [], {}
        for one in ids:
            row = self.rows[one]
            if row.state is State.SUCCESS and not self._taken(one):
                proven.append(one)
            else:
                answers[one] = self._admit(batch, one, unchanged=unchanged)
        return answers | {one: self._admit(batch, one, unchanged=unchanged) for one in proven}

    def _taken(self, one: str) -> bool:
        owner = self.owners.get(self.rows[one].path, one)
        return owner != one and self.rows[owner].state in ACTIVE

    def _admit(self, batch: str, one: str, *, unchanged: bool) -> Admission:
        row = self.rows[one]
        if row.state not in ACTIVE and self._taken(one):
            return Admission.TAKEN
        if batch not in row.batches:
            kept = [] if row.cancelled else row.batches
            row.batches = [name for name in kept if name not in self.earlier]
            row.batches.append(batch)
        if row.state in ACTIVE:
            row.cancelled = False
            return Admission.JOINED
        if row.state is State.SUCCESS and unchanged:
            return Admission.PRESENT
        answer = Admission.AGAIN if row.state else Admission.NEW
        row.begin()
        row.sources = row.could
        self.owners[row.path] = one
        return answer

    def again(self, ids: Iterable[str]) -> int:
        """Foresee how many begin anew."""
        begun = 0
        for one in filter(self._may_begin_again, ids):
            self.earlier.difference_update(self.rows[one].batches)
            self.rows[one].begin()
            self.owners[self.rows[one].path] = one
            begun += 1
        return begun

    def _may_begin_again(self, one: str) -> bool:
        row = self.rows[one]
        ended = (State.FAILURE, State.REVOKED)
        owner = self.owners.get(row.path, one)
        free = owner == one or self.rows[owner].state in ended
        return row.state is State.RETRY or (row.state in ended and free)

    def cancel(self, ids: Iterable[str]) -> int:
        """Foresee how many are cancelled now or will be."""
        active = [one for one in ids if self.rows[one].state in ACTIVE]
        for one in active:
            row = self.rows[one]
            row.cancelled = row.state is State.STARTED
            if not row.cancelled:
                row.move(State.REVOKED)
                self.sent.discard(one)
        return len(active)

    def withdraw(self, batch: str, ids: Iterable[str]) -> tuple[int, int]:
        """Foresee how many are cancelled, and how many leave the batch and go on for another."""
        mine = [one for one in ids if self.rows[one].state in ACTIVE]
        # Or of no batch any more: nothing of it is this one's either.
        shared = [one for one in mine if self.rows[one].batches != [batch]]
        left = [one for one in shared if batch in self.rows[one].batches]
        for one in left:
            self.rows[one].batches.remove(batch)
        return self.cancel(set(mine) - set(shared)), len(left)

    def forget(self, batch: str) -> None:
        """Take a batch out of the ledger; what it alone asked for was cancelled before."""
        for row in self.rows.values():
            if batch in row.batches:
                row.batches.remove(batch)
                row.forgotten = True

    def sweep(self, *, keeps_proofs: bool) -> None:
        """Remove the records that no batch has any more; a running one stays for now."""
        for one, row in self.rows.items():
            if not row.forgotten or (row.state is State.STARTED and not row.batches):
                continue
            row.forgotten = False
            if not row.batches and not (keeps_proofs and row.state is State.SUCCESS):
                self.rows[one] = Row(row.path, row.could)
                if self.owners.get(row.path) == one:
                    del self.owners[row.path]

    def resume(self) -> None:
        """Let the account go on: nothing waits for another key any more."""
        self.paused = self.by_hand = False
        for row in self.rows.values():
            if row.refused:
                row.move(State.PENDING)

    def new_run(self) -> None:
        """Begin anew: what was unfinished is over, batches are those of earlier runs."""
        for row in self.rows.values():
            if row.state in ACTIVE:
                row.move(State.REVOKED)
            row.cancelled = False
            self.earlier.update(row.batches)
        self.sent.clear()
        self.paused = self.by_hand
        self.s3_offered = self.s3_out = False

    # --- worked on ---------------------------------------------------------------------------

    @property
    def leased(self) -> int:
        """How many places are taken."""
        return sum(row.holder is not None for row in self.rows.values())

    def verdict(self, one: str) -> Verdict:
        """Foresee the answer to a claim."""
        row = self.rows[one]
        if row.state is None:
            return Verdict.UNKNOWN
        if row.state not in ACTIVE:
            return Verdict.FINISHED
        if row.state is State.STARTED:
            return Verdict.RUNNING
        if row.due == "later":
            return Verdict.EARLY
        full = not self.is_open(one) or self.leased >= self.concurrent
        return Verdict.WAITING if full else Verdict.GRANTED

    def claimed(self, one: str, verdict: Verdict, claim: Claim | None) -> None:
        """Take note of a claim, granted or not."""
        row = self.rows[one]
        self.sent.discard(one)
        if verdict is Verdict.WAITING:
            row.due = None
        if claim is not None:
            row.move(State.STARTED)
            row.holder, row.attempts = claim, row.attempts + 1

    def holds(self, claim: Claim) -> bool:
        """Tell whether this attempt may still renew and record."""
        return self.rows[claim.download_id].holder == claim

    def renewal(self, claim: Claim) -> Renewal:
        """Foresee the answer to a renewal."""
        row = self.rows[claim.download_id]
        if not self.holds(claim):
            return Renewal.LOST
        if row.cancelled:
            return Renewal.CANCELLED
        row.expired = False
        return Renewal.OK

    def recover(self) -> tuple[int, int]:
        """Foresee how many leases end and how many downloads are woken."""
        dead = [row for row in self.rows.values() if row.expired]
        woken = [row for row in self.rows.values() if row.due == "past"]
        for row in dead:
            poison = row.attempts >= self.max_attempts
            row.move(State.FAILURE if poison else State.RETRY)
            if row.cancelled:
                row.move(State.REVOKED)
                row.cancelled = False
        for row in woken:
            row.due = None
        return len(dead), len(woken)
