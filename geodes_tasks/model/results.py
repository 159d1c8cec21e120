"""Results of a download: the result of an attempt, the decision after a failure, the record."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

from geodes_tasks.errors import BatchFailedError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.model.states import Outcome, Reason, State


@dataclass(frozen=True, slots=True)
class Proof:
    """The ``stat`` of a file at the moment its bytes were verified.

    A file whose stat is still the same has not been written since, so it is not read again.
    """

    # No st_dev: it differs between the hosts of a shared file system (NFS gives each mount its
    # own anonymous device number).
    size_bytes: int
    mtime_ns: int
    """Time of the last write, in nanoseconds since 1970."""
    inode: int

    @classmethod
    def of(cls, stat: os.stat_result) -> Proof:
        """Return the proof of a stat result."""
        return cls(stat.st_size, stat.st_mtime_ns, stat.st_ino)

    @classmethod
    def parse(cls, text: str) -> Proof:
        """Parse the form of ``str(proof)``.

        Raises:
            ValueError: not three whole numbers.
        """
        size, mtime, inode = text.split(":")
        return cls(int(size), int(mtime), int(inode))

    def __str__(self) -> str:
        """Return the form that the ledger keeps: ``size:mtime:inode``."""
        return f"{self.size_bytes}:{self.mtime_ns}:{self.inode}"


Verified = bool | Literal["crc32"]
"""True if the catalogue has a checksum and it agrees; for members, the check in the archive."""


@dataclass(frozen=True, slots=True)
class MemberFile:
    """One file of an archive that was unpacked or fetched alone."""

    path: str
    """Below the folder, with slashes; in a record absolute."""
    size_bytes: int
    crc32: str
    """Eight hexadecimal digits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadResult:
    """The result of an attempt whose file is now at its final name."""

    outcome: Outcome
    path: str
    size_bytes: int
    checksum: Checksum | None
    """Of the bytes on disk; None if the file was not read and the catalogue has none."""
    verified: Verified
    bytes_transferred: int
    """Bytes that came over the network in this attempt."""
    source: str | None
    """The source of the last byte; None if nothing was fetched."""
    proof: Proof
    sources: Mapping[str, int] = field(default_factory=dict)
    """The same by source: ``{"s3": n, "geodes": m}``."""
    members: tuple[MemberFile, ...] = ()
    """The files of a set of members."""

    @classmethod
    def present(
        cls,
        asset: Asset,
        final: Path,
        size: int,
        proof: Proof,
        members: tuple[MemberFile, ...] = (),
    ) -> DownloadResult:
        """Return the result for a file or folder of ``size`` bytes that is there and right."""
        return cls(
            outcome=Outcome.ALREADY_PRESENT,
            path=str(final),
            size_bytes=size,
            checksum=asset.checksum,
            verified="crc32" if members else asset.checksum is not None,
            bytes_transferred=0,
            source=None,
            proof=proof,
            members=members,
        )


class Complaint(StrEnum):
    """An answer to one request that concerns all requests of its account."""

    THROTTLED = "throttled"
    """HTTP 429: the concurrency limit is lowered."""
    REFUSED = "refused"
    """The quota is used up: after the pause, one request at a time tests it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """The next step of a download whose attempt failed."""

    retry: bool
    """False: the download ends as FAILURE."""
    reason: Reason = Reason.BACKOFF
    """Why the download waits."""
    delay_s: float = 0.0
    """Seconds that it waits; 0: until a slot is free."""
    counted: bool = True
    """Whether the attempt counts: only if bytes were requested."""
    suspect: Checksum | None = None
    """Digest of a whole copy that differs from the catalogue."""
    pause: str | None = None
    """Why the whole account pauses; None if it does not."""
    pause_s: float | None = None
    """Seconds that the account pauses; None: until a user resumes it."""
    probe_s: float | None = None
    """Seconds between two tests whether the quota is back; None if the failure was another."""
    held: str | None = None
    """The source or host that the download waits for; None: for none."""
    complaint: Complaint | None = None
    """What the answer of the portal means for the whole account."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An error as data, for JSON: class, text and hint."""

    type: str
    message: str
    hint: str = ""

    @classmethod
    def of(cls, error: BaseException) -> ErrorInfo:
        """Return the data of an exception; the hint is empty for errors of other packages."""
        hint = getattr(error, "hint", "")
        return cls(type(error).__name__, str(error), hint)


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadRecord:
    """One line of a report."""

    item_id: str
    collection: str
    asset_key: str
    state: State
    outcome: Outcome | None
    path: str
    size_bytes: int | None
    checksum: str | None
    """``md5:<hex>``."""
    verified: Verified
    bytes_transferred: int
    attempts: int
    source: str | None
    started_at: str | None
    """ISO 8601, UTC; None before the first attempt."""
    finished_at: str | None
    """ISO 8601, UTC; None while it is unfinished."""
    error: ErrorInfo | None
    sources: Mapping[str, int] = field(default_factory=dict)
    """Bytes by source, over all attempts: ``{"s3": n, "geodes": m}``."""
    download_id: str = ""
    reason: str | None = None
    """Why it waits (state RETRY)."""
    due_at: str | None = None
    """ISO 8601, UTC: when it continues; None if unknown."""
    worker: str | None = None
    history: tuple[Mapping[str, Any], ...] = ()
    """One entry for each failed attempt: at, worker, source, bytes, error."""
    members: tuple[MemberFile, ...] = ()
    """The files of a set of members; left out of the JSON form of other downloads."""
    footprint: str | None = field(default=None, repr=False)
    """Place and time of the item as JSON, in one record of each item; left out of the JSON form."""

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        form = asdict(self)
        del form["footprint"]
        if not self.members:
            del form["members"]
        return form

    def to_row(self) -> dict[str, Any]:
        """Return the JSON form as a row of a table: the error in three columns."""
        form = self.to_dict()
        error = form["error"] or {}
        form |= {f"error_{name}": error.get(name) for name in ("type", "message", "hint")}
        return form | {name: form[name] and str(form[name]) for name in ("state", "outcome")}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchStatus:
    """Numbers of a batch, as ``status --json`` prints them."""

    batch: str
    owner: str | None = None
    """``user@host`` that enqueued it first; None if unknown."""
    account: str | None = None
    """The account that it was enqueued with."""
    enqueued_at: str | None = None
    """ISO 8601, UTC."""
    total: int
    states: Mapping[str, int]
    outcomes: Mapping[str, int]
    waiting: Mapping[str, int] = field(default_factory=dict)
    """Reason to number of downloads in state RETRY."""
    bytes_total: int = 0
    bytes_done: int = 0
    bytes_ended: int = 0
    """Bytes of failed and cancelled downloads that were not fetched; in no JSON form."""
    bytes_per_second: float = 0.0
    """Mean of the last 20 seconds or so, kept by the ledger; resumed bytes do not count."""

    @property
    def unfinished(self) -> int:
        """Number of downloads that are not in a terminal state."""
        return sum(self.states.get(name, 0) for name in ("PENDING", "STARTED", "RETRY"))

    @property
    def bytes_left(self) -> int:
        """Number of bytes that unfinished downloads still have to receive."""
        return max(self.bytes_total - self.bytes_done - self.bytes_ended, 0)

    @property
    def has_unknown_sizes(self) -> bool:
        """Return whether more is left than the catalogue has sizes for: others count as none."""
        waits = self.states.get("PENDING", 0) + self.states.get("RETRY", 0)
        is_above = self.bytes_done + self.bytes_ended > self.bytes_total
        return not self.bytes_left and (waits > 0 or (is_above and self.unfinished > 0))

    @property
    def ok(self) -> bool:
        """Return whether every download is done; an empty batch is."""
        return self.states.get("SUCCESS", 0) == self.total

    def raise_for_status(self) -> None:
        """Check that every download is done.

        Raises:
            BatchFailedError: some failed, were cancelled, or are unfinished.
        """
        if not self.ok:
            failed, cancelled = (self.states.get(name, 0) for name in ("FAILURE", "REVOKED"))
            raise BatchFailedError(self.batch, self.total, failed, cancelled, self.unfinished)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        form = asdict(self)
        del form["bytes_ended"]
        return form
