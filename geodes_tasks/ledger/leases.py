"""Leases: one worker's time-limited right to a download, and the writes that end an attempt."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from enum import StrEnum
from typing import Any, TypeVar

from geodes_tasks.errors import LeaseLostError
from geodes_tasks.ledger.connection import Part
from geodes_tasks.ledger.dispatch import Dispatch, Wakeup
from geodes_tasks.ledger.error_texts import error_json
from geodes_tasks.ledger.figures import UNREADABLE
from geodes_tasks.model import checksum as checksums
from geodes_tasks.model import json as jsontext
from geodes_tasks.model.asset import REDIRECT, Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.results import Decision, DownloadResult, Proof

Known = TypeVar("Known")

RENEWAL_BLOCK = 100
"""Number of leases that one script renews: about a millisecond of Redis."""


def clock() -> float:
    """Return the seconds of a clock that also runs while the process or the machine sleeps."""
    # CLOCK_MONOTONIC stands still while the machine is suspended (clock_gettime(2)).
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Verdict(StrEnum):
    """The answer to a claim."""

    GRANTED = "granted"
    """The lease is yours."""
    UNKNOWN = "unknown"
    """No such download was ever admitted, or it was forgotten."""
    RUNNING = "running"
    """Another attempt has a live lease: this message is a duplicate."""
    FINISHED = "finished"
    """It has ended: this message is a duplicate."""
    EARLY = "early"
    """It is not due yet: this message is a duplicate."""
    WAITING = "waiting"
    """The account is at its concurrency limit or paused; the ledger sends it again."""
    DAMAGED = "damaged"
    """Its record cannot be parsed; the download has ended with a DamagedRecordError."""


class Renewal(StrEnum):
    """The answer to a renewal."""

    OK = "ok"
    LOST = "lost"
    """Another worker has a newer lease, or it has ended: stop and record nothing."""
    CANCELLED = "cancelled"
    """A user cancelled it: stop, remove the part file, record REVOKED."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A granted lease, with the facts that the attempt needs."""

    download_id: str
    token: str
    """Fencing token: higher than that of every earlier attempt of any download."""
    attempt: int
    """1 for the first."""
    asset: Asset
    path: str
    proof: Proof | None
    """Proof of the file as it was last verified; None for a file never verified."""
    suspect: Checksum | None
    """Digest of an earlier whole copy that did not agree with the catalogue."""
    account: str
    sent_at: float = 0.0
    """Time of the request, by :func:`clock`: the lease lasts at least its length from then."""
    notes: frozenset[str] = frozenset()
    """Notes on its sources: ``probe``, ``held:<source>``, ``host:<name>``, ``missing``."""
    portal_pause: str = ""
    """Why the account sends nothing to the portal while S3 serves this; empty when it may."""

    @property
    def probes(self) -> bool:
        """True when this attempt probes for quota or after an outage, while all others wait."""
        return "probe" in self.notes

    @property
    def was_missing(self) -> bool:
        """True when the portal did not have the file at the last attempt."""
        return "missing" in self.notes

    @property
    def is_taken_over(self) -> bool:
        """True when the worker of the attempt before died with it."""
        return "taken-over" in self.notes

    @property
    def closed_sources(self) -> frozenset[str]:
        """The sources that a user paused: no request goes to them."""
        return self._noted("held")

    @property
    def host(self) -> str:
        """The host that serves the asset in place of the portal; empty for the portal."""
        host = next(iter(self._noted("host")), "")
        return "" if host.startswith(REDIRECT) else host

    @property
    def redirect(self) -> str:
        """The name of the host that the portal redirects to, ``geodes->host``; empty for none."""
        return next((one for one in self._noted("host") if one.startswith(REDIRECT)), "")

    def _noted(self, word: str) -> frozenset[str]:
        if not self.notes:
            return self.notes
        parted = (note.partition(":") for note in self.notes)
        return frozenset(rest for first, _, rest in parted if first == word)


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of one running attempt."""

    download_id: str
    token: str
    done_bytes: int
    """Bytes on disk so far; -1 when unchanged."""
    source: str = ""
    received_bytes: int = 0
    """Bytes that this attempt received over the network so far."""
    collection: str = ""


def _readable(parse: Callable[[str], Known], text: str) -> Known | None:
    """Return a parsed finding of an earlier attempt; None for damaged text."""
    try:
        return parse(text) if text else None
    except UNREADABLE:
        return None


def _failed(claim: Claim, error: BaseException, entry: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of an attempt that failed, with its entry in the history."""
    return {
        "error": error_json(error),
        "entry": jsontext.compact(entry),
        "bytes": entry["transferred"],
        "source": entry.get("source"),
        "collection": claim.asset.collection,
        "sources": entry.get("sources") or None,
    }


class Leases(Part):
    """Claim and renew leases; record how attempts end."""

    def claim(self, download_id: str, worker: str) -> Claim | Verdict:
        """Claim the right to a download; a Verdict is the reason of a refusal.

        Raises:
            LedgerUnavailableError: Redis does not answer; the lease may have been granted, and
                then expires by itself.
        """
        sent_at = clock()
        verdict, *granted = self._connection.run(
            "claim_download",
            download_id,
            worker,
            self._connection.limits.lease_seconds,
            self._connection.limits.concurrent,
        )
        if verdict == Verdict.DAMAGED:
            self._connection.run("end_damaged_download", download_id, "")
        if verdict != Verdict.GRANTED:
            return Verdict(verdict)
        token, attempt, spec, path, proof, suspect, account, notes, portal_pause = granted
        try:
            asset = Asset.from_dict(jsontext.parsed(spec))
        except UNREADABLE:
            self._connection.run("end_damaged_download", download_id, token)
            return Verdict.DAMAGED
        return Claim(
            download_id=download_id,
            token=token,
            attempt=int(attempt),
            asset=asset,
            path=path,
            proof=_readable(Proof.parse, proof),
            suspect=_readable(checksums.parse, suspect),
            account=account,
            sent_at=sent_at,
            notes=frozenset(notes.split()),
            portal_pause=portal_pause,
        )

    def renew(self, progress: Sequence[Progress]) -> list[Renewal]:
        """Renew leases and store progress, a block of them in one script.

        Raises:
            LedgerUnavailableError: Redis does not answer; the leases may be renewed or not.
        """
        answers: list[Renewal] = []
        for first in range(0, len(progress), RENEWAL_BLOCK):
            words: list[object] = []
            for one in progress[first : first + RENEWAL_BLOCK]:
                words += one.download_id, one.token, one.done_bytes, one.source
                words += one.received_bytes, one.collection
            lease_s = self._connection.limits.lease_seconds
            answers += map(Renewal, self._connection.run("renew_leases", lease_s, *words))
        return answers

    def finish(self, claim: Claim, result: DownloadResult) -> list[Wakeup]:
        """Record a verified file.

        Returns:
            The downloads to send messages for, now that fewer run.

        Raises:
            LeaseLostError: another worker has the download now; nothing was recorded.
            LedgerUnavailableError: Redis does not answer; call it again.
        """
        # Of bytes that agree with the catalogue, the checksum is in the record already.
        is_news = result.checksum is not None and result.checksum != claim.asset.checksum
        fields = {
            "outcome": result.outcome,
            "verified": "crc32" if result.verified == "crc32" else str(int(result.verified)),
            "bytes": str(result.bytes_transferred),
            "source": result.source,
            "collection": claim.asset.collection,
            "sources": result.sources or None,
            "proof": str(result.proof),
            "size": str(result.size_bytes),
            "checksum": str(result.checksum) if is_news else None,
            "members": jsontext.compact([astuple(one) for one in result.members])
            if result.members
            else None,
        }
        # The signature of an href is a secret, and a verified file needs it no more. A request
        # for the same item brings it again.
        if (unsigned := claim.asset.unsigned()) is not claim.asset:
            fields["spec"] = jsontext.compact(unsigned.to_dict())
        return self._record(claim, "finish_download", fields)

    def postpone(
        self, claim: Claim, error: BaseException, decision: Decision, entry: dict[str, Any]
    ) -> list[Wakeup]:
        """Record that the download waits, and why. Returns and raises as ``finish``."""
        fields = _failed(claim, error, entry) | {
            "reason": decision.reason,
            "delay": decision.delay_s,
            "counted": decision.counted,
            "suspect": str(decision.suspect) if decision.suspect else None,
            "pause": decision.pause,
            "pause_seconds": decision.pause_s,
            "probe_seconds": decision.probe_s,
            "complaint": decision.complaint,
            "held": decision.held,
        }
        return self._record(claim, "end_attempt", fields)

    def fail(self, claim: Claim, error: BaseException, entry: dict[str, Any]) -> list[Wakeup]:
        """Record that the download ended with an error. Returns and raises as ``finish``."""
        return self._record(claim, "end_attempt", _failed(claim, error, entry))

    def revoke(self, claim: Claim) -> list[Wakeup]:
        """Record that a cancelled attempt has stopped. Returns and raises as ``finish``."""
        return self._record(claim, "end_attempt", {})

    def _record(self, claim: Claim, script: str, fields: dict[str, Any]) -> list[Wakeup]:
        status, *more = self._connection.run(
            script,
            claim.download_id,
            claim.token,
            jsontext.compact({name: value for name, value in fields.items() if value is not None}),
            *self._connection.limits.args(),
        )
        # The script compares the fencing token: a frozen attempt that wakes records nothing.
        if status == "lost":
            raise LeaseLostError(claim.download_id)
        return Dispatch(self._connection).release(claim.account) if more[0] else []
