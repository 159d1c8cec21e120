"""One archive that becomes a folder, or a set of its members: by ranges, else fetched whole."""

from __future__ import annotations

import dataclasses
import io
import itertools
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from geodes_tasks.errors import (
    ArchiveError,
    HostileNameError,
    NoMemberError,
    NoRangesError,
    NotAFileError,
    SourceUnavailableError,
    TooLargeError,
)
from geodes_tasks.model.asset import Asset, Unpack
from geodes_tasks.model.results import DownloadResult, Proof
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer import multi_object
from geodes_tasks.transfer.callbacks import Callbacks
from geodes_tasks.transfer.destination import PART_FOLDER
from geodes_tasks.transfer.disk import closing, disk_errors, open_file
from geodes_tasks.transfer.leftovers import part_folder
from geodes_tasks.transfer.publish import parent_of
from geodes_tasks.transfer.remote_archive import RemoteArchive
from geodes_tasks.transfer.unpack import Unpacked
from geodes_tasks.transports import Source, Transport, sources_of


def download_archive(
    asset: Asset,
    final: Path,
    transports: Mapping[str, Transport],
    callbacks: Callbacks,
    token: str,
    proof: Proof | None,
    download: Callable[[Asset, Path, Mapping[str, Transport]], DownloadResult],
) -> DownloadResult:
    """Fetch and verify an archive, then unpack it; a folder that is there and right is kept.

    Of an asset with ``members`` only these are fetched where a source serves ranges.

    Args:
        asset: The archive, whose ``unpack`` says that it becomes a folder.
        final: Path of the folder.
        transports: By source name, the preferred one first.
        callbacks: Called by the transfer.
        token: A number higher than that of every earlier attempt.
        proof: Of the folder as it was last verified.
        download: Fetches and verifies one file.

    Raises:
        ArchiveError, HostileNameError, NoMemberError: it cannot be unpacked; nothing of it is left.
        NotAFileError: a file has the name of the folder.
        GeodesTasksError: as for a file.
    """
    folder, size = Unpacked(final, asset.content), asset.size_bytes or 0
    current = folder.proof(proof, lambda: callbacks.progress(size))
    if current is not None:
        files = tuple(folder.members() or ()) if asset.members else ()
        size = sum(one.size_bytes for one in files) if files else size
        return DownloadResult.present(asset, final, size, current, files)
    archive, order = folder.archive_of(asset), dict(transports)
    by_ranges = sources_of(asset, transports) if asset.members and not archive.is_file() else []
    for source in itertools.takewhile(lambda one: asset.is_ranged(one.name), by_ranges):
        try:
            return _members(asset, folder, source, callbacks, token)
        except (NoRangesError, SourceUnavailableError) as error:
            callbacks.source_failed(source.name, error)
        except ArchiveError as error:
            if not isinstance(error.__cause__, zipfile.BadZipFile):
                raise
            # The checksum of the whole archive decides whether it or the transfer is damaged.
            callbacks.source_failed(source.name, error)
            order[source.name] = order.pop(source.name)
            break
    plain = dataclasses.replace(asset, unpack=Unpack.NO, members=())
    result = download(plain, archive, order)
    if archive.is_dir() and asset.members:
        raise ArchiveError(asset.title, "is a folder at its source, which has no directory")
    if archive.is_dir():
        # The datalake has some products as folders: there is nothing to unpack.
        with (
            disk_errors(final),
            closing(part_folder(final.parent / PART_FOLDER, callbacks.check_folder)) as hidden,
            parent_of(hidden, final, callbacks.check_folder) as parent,
        ):
            holder = parent if archive.parent == final.parent else hidden
            os.rename(archive.name, final.name, src_dir_fd=holder, dst_dir_fd=parent)
    else:
        try:
            size = result.size_bytes
            with _opened(archive) as stream:
                folder.unpack(
                    asset, stream, token, lambda: callbacks.progress(size),
                    callbacks.confirm, callbacks.check_folder,
                )  # fmt: skip
        except (ArchiveError, HostileNameError, NoMemberError, TooLargeError, NotAFileError):
            folder.drop_archive()
            raise
    folder.drop_archive()
    return _unpacked_result(asset, folder, result)


def _opened(archive: Path) -> io.BufferedReader:
    """Open a verified archive; one with a name of its own may be a link of the user's."""
    if archive.parent.name != PART_FOLDER:
        return archive.open("rb")
    with disk_errors(archive):
        return io.BufferedReader(open_file(archive))


def _members(
    asset: Asset,
    folder: Unpacked,
    source: Source,
    callbacks: Callbacks,
    token: str,
    *,
    is_fresh: bool = False,
) -> DownloadResult:
    """Fetch only the members, from a source that serves ranges.

    Raises:
        ArchiveError, HostileNameError, NoMemberError: it cannot be unpacked.
        NoRangesError, SourceUnavailableError: this source cannot give them.
        GeodesTasksError: as for a file; members that are complete stay.
    """
    with RemoteArchive(asset, source, callbacks, is_fresh=is_fresh) as remote:
        try:
            kept = folder.unpack(
                asset,
                remote,
                token,
                lambda: callbacks.progress(remote.received_bytes),
                callbacks.confirm,
                callbacks.check_folder,
                remote.plan,
            )
        except ArchiveError as error:
            if not remote.knows_directory or not isinstance(error.__cause__, zipfile.BadZipFile):
                raise
            # The archive changed, or the directory that was kept is damaged.
            return _members(asset, folder, source, callbacks, token, is_fresh=True)
    result = DownloadResult(
        outcome=Outcome.RESUMED if kept else Outcome.DOWNLOADED,
        path=str(folder.final),
        size_bytes=0,
        checksum=None,
        verified="crc32",
        bytes_transferred=remote.received_bytes,
        source=source.name,
        sources={source.name: remote.received_bytes},
        proof=Proof(0, 0, 0),
    )
    return _unpacked_result(asset, folder, result)


def _unpacked_result(asset: Asset, folder: Unpacked, result: DownloadResult) -> DownloadResult:
    """Return the result of an archive for the folder, or the set of members, that it became."""
    with disk_errors(folder.final):
        proof = multi_object.proof_of(folder.final)
    result = dataclasses.replace(result, path=str(folder.final), proof=proof)
    if not asset.members:
        return result
    files = tuple(folder.members() or ())
    size = sum(one.size_bytes for one in files)
    return dataclasses.replace(
        result, size_bytes=size, checksum=None, verified="crc32", members=files
    )
