"""Sources of one file in their order: which is opened next, and which error ends the download."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from geodes_tasks.errors import (
    AttemptEndedError,
    DiskError,
    FolderError,
    GeodesTasksError,
    KeyMissingError,
    LedgerUnavailableError,
    NotAFileError,
    Reaction,
    SourceUnavailableError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.model.asset import GEODES, Asset
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.partfile import PartFile
from geodes_tasks.transports import Member, Transport, no_source

logger = logging.getLogger(__name__)

GAIN_BYTES = 1024 * 1024
"""New bytes after which a source that broke is opened once more, before another source is."""

_NOT_OF_A_SOURCE = (AttemptEndedError, DiskError, LedgerUnavailableError, NotAFileError)
_WAITS = {Reaction.QUOTA, Reaction.THROTTLED, Reaction.AUTH, Reaction.OFFLINE}


@dataclass(frozen=True, slots=True)
class Source:
    """A source of one asset: where it is there, and how it is opened."""

    name: str
    """``geodes`` or ``s3``."""
    transport: Transport
    href: str


def sources_of(asset: Asset, transports: Mapping[str, Transport]) -> list[Source]:
    """Return the sources that have an asset, in the order of the transports."""
    return [
        Source(name, transport, asset.hrefs[name])
        for name, transport in transports.items()
        if name in asset.hrefs
    ]


class Fallback:
    """The sources of one file, tried until one of them has given it."""

    def __init__(
        self,
        asset: Asset,
        transports: Mapping[str, Transport],
        part: PartFile,
        callbacks: Callbacks,
    ) -> None:
        """Take the transports by source name, the preferred one first.

        Raises:
            HrefRefusedError: no transport is of a source that has the asset.
        """
        self._asset, self._part, self._callbacks = asset, part, callbacks
        self._left = sources_of(asset, transports)
        self._start_bytes = 0
        """Bytes in the part file when the current source was opened, or broke for the last time."""
        self._errors: list[GeodesTasksError] = []
        self.folder: Source | None = None
        """The source for which the address is a folder of many files, which are the asset."""
        if not self._left:
            raise no_source(asset)

    def fetch_by(self, fetch: Callable[[Source, bool], None]) -> None:
        """Fetch the file from the first source that gives it.

        Args:
            fetch: Called with a source, and whether another one is left.

        Raises:
            GeodesTasksError: no source is left. Of several errors the one is raised that tells
                the user most. Errors of the attempt, the disk and the ledger are raised at once.
        """
        last = None
        while self._left:
            source = self._left.pop(0)
            if source is not last:
                last, self._start_bytes = source, self._part.offset
            try:
                fetch(source, bool(self._left))
            except _NOT_OF_A_SOURCE:
                raise
            except FolderError as error:
                self._open_folder(source, error)
            except GeodesTasksError as error:
                self._continue_after(source, error)
            else:
                return

    def _open_folder(self, source: Source, error: FolderError) -> None:
        """Find the asset in the folder that its address is; continue from another source if not."""
        self._errors.append(error)
        if self._asset.checksum is None and len(self._asset.hrefs) == 1:
            self.folder = source
            return
        with contextlib.suppress(SourceUnavailableError):
            found = _member_for(self._asset, source.transport.members(source.href))
            if found is not None:
                self._left.insert(0, replace(source, href=found.href))
        if not self._left:
            raise error from None

    def _continue_after(self, source: Source, error: GeodesTasksError) -> None:
        # A connection of hours breaks, and the same source is most likely the best still. Never
        # without a gain: one that always breaks at the same byte must not be opened for ever.
        # Never the portal: each request costs quota there, and the other source costs none.
        is_broken = isinstance(error, TransferError | TruncatedBodyError)
        has_gained = self._part.offset >= self._start_bytes + GAIN_BYTES
        if is_broken and has_gained and self._left and source.name != GEODES:
            self._start_bytes = self._part.offset
            self._left.insert(0, source)
            return
        self._errors.append(error)
        answer = min(reversed(self._errors), key=_rank)
        if self._left or answer is not error:
            self._callbacks.source_failed(source.name, error)
        if not self._left:
            if isinstance(answer, KeyMissingError):
                # Users of the datalake alone have no key: the reason of S3 is what they can mend.
                found = [one for one in self._errors if isinstance(one, SourceUnavailableError)]
                reasons = (f"{one.source} cannot give it: {one.problem}" for one in found)
                answer = replace(answer, problem="; ".join([answer.problem, *reasons]))
            raise answer from (None if answer is error else error)
        logger.info(
            "%s; continue from %s at byte %d",
            error,
            self._left[0].name,
            self._part.offset,
            extra={"action": "source_changed"},
        )


def _rank(error: GeodesTasksError) -> int:
    """Rank an error by how much it tells the user: waits first, a source out of reach last."""
    if isinstance(error, SourceUnavailableError):
        return 3
    if error.reaction in _WAITS:
        return 0
    return 2 if error.reaction is Reaction.FINAL else 1


def _member_for(asset: Asset, members: Sequence[Member]) -> Member | None:
    """Return the one object of a folder that is the asset, by its name, else by its size."""
    named = [one for one in members if one.name.rpartition("/")[2] == asset.title]
    sized = [one for one in members if one.size_bytes == asset.size_bytes]
    for found in (named, sized):
        if len(found) == 1 and asset.size_bytes in (None, found[0].size_bytes):
            return found[0]
    return None
