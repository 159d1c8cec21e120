"""Sources of one file in their order: which is opened next, and which error ends the download."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

from geodes_tasks.errors import (
    AttemptEndedError,
    DiskError,
    FolderError,
    GeodesTasksError,
    HostileNameError,
    KeyMissingError,
    LedgerUnavailableError,
    NoObjectError,
    NotAFileError,
    NotFoundError,
    Reaction,
    SourceUnavailableError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.model.asset import GEODES, Asset
from geodes_tasks.transfer.fetch import Fetch
from geodes_tasks.transports import Member, Source, Transport, no_source, sources_of

logger = logging.getLogger(__name__)

GAIN_BYTES = 1024 * 1024
"""New bytes after which a source that broke is opened once more, before another source is."""

_NOT_OF_A_SOURCE = (
    AttemptEndedError,
    DiskError,
    HostileNameError,
    LedgerUnavailableError,
    NotAFileError,
)
_WAITS = {Reaction.QUOTA, Reaction.THROTTLED, Reaction.AUTH, Reaction.OFFLINE}


def fetch_from_any(fetch: Fetch, transports: Mapping[str, Transport]) -> Source | None:
    """Fetch a file from the first source that gives it.

    Args:
        fetch: The file on its way.
        transports: By source name, the preferred one first.

    Returns:
        None when the file is complete; else the source for which the address is a folder of many
        files, which are the asset.

    Raises:
        HrefRefusedError: no transport is of a source that has the asset.
        GeodesTasksError: no source is left. Of several errors the one is raised that tells the
            user most. Errors of the attempt, the disk and the ledger are raised at once.
    """
    asset, part, errors = fetch.asset, fetch.part, list[GeodesTasksError]()
    left, last, start_bytes = sources_of(asset, transports), None, 0
    while left:
        source = left.pop(0)
        if source is not last:
            last, start_bytes = source, part.offset
        try:
            try:
                fetch.fetch(source, has_other=bool(left))
            except FolderError:
                if asset.checksum is None and len(asset.hrefs) == 1:
                    return source
                is_member = source.href != asset.hrefs[source.name]
                found = _member_for(asset, source.transport.members(source.href))
                if found is None or is_member:
                    raise
                left.insert(0, replace(source, href=found.href))
                continue
        except _NOT_OF_A_SOURCE:
            raise
        except GeodesTasksError as error:
            # A connection of hours breaks, and the same source is most likely the best still. Never
            # without a gain: one that always breaks at the same byte must not be opened for ever.
            # Never the portal: each request costs quota there, and the other source costs none.
            is_broken = isinstance(error, TransferError | TruncatedBodyError)
            has_gained = part.offset >= start_bytes + GAIN_BYTES
            if is_broken and has_gained and left and source.name != GEODES:
                start_bytes = part.offset
                left.insert(0, source)
                continue
            errors.append(error)
            answer = min(reversed(errors), key=_rank)
            if left or answer is not error:
                fetch.callbacks.source_failed(source.name, error)
            if not left:
                raise _with_reasons(answer, errors) from (None if answer is error else error)
            logger.info(
                "%s; continue from %s at byte %d", error, left[0].name, part.offset,
                extra={"action": "source_changed"},
            )  # fmt: skip
        else:
            return None
    raise no_source(asset)


def _with_reasons(answer: GeodesTasksError, errors: Sequence[GeodesTasksError]) -> GeodesTasksError:
    """Return the error that ends a download: that of a missing key with the reasons of S3."""
    if isinstance(answer, NoObjectError):
        return NotFoundError(answer.href, 404)
    if not isinstance(answer, KeyMissingError):
        return answer
    # Users of the datalake alone have no key: the reason of S3 is what they can mend.
    found = [one for one in errors if isinstance(one, SourceUnavailableError)]
    reasons = (f"{one.source} cannot give it: {one.problem}" for one in found)
    return replace(answer, problem="; ".join([answer.problem, *reasons]))


def _rank(error: GeodesTasksError) -> int:
    """Rank an error by how much it tells the user: waits first, a source without it last."""
    if isinstance(error, SourceUnavailableError):
        return 4 if error.reaction is Reaction.FINAL else 3
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
