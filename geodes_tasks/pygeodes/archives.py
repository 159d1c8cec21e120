"""The archive of an item: its path in the folder, and its members, read in place if possible."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from geodes_tasks.client import direct_download, planning
from geodes_tasks.errors import ItemError, NoRangesError
from geodes_tasks.ledger import Request
from geodes_tasks.model.asset import Asset
from geodes_tasks.monitoring import html
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer import destination, members

_HERE = re.compile(r"\.{1,2}/")


def final_path(asset: Asset, folder: Path, outfile: str | Path | None = None) -> Path:
    """Return the absolute path of an archive: ``name.zip`` in the folder, ``./name.zip`` here.

    Without a name, or where the name is a folder, the file has its original title.

    Raises:
        HostileNameError: that title leads out of the folder.
        TypeError: the name is no path.
    """
    if not isinstance(outfile, str | os.PathLike | None):
        raise TypeError(f"outfile is the name of a file, not {outfile!r}")
    # As text: a Path drops the leading `./`, which is the user's sign for the current folder.
    text = str(outfile or "")
    path = Path(text) if _HERE.match(text) else folder / Path(text).expanduser()
    # False also for a name that no file can have: the download raises its error.
    if not text or text.endswith("/") or os.path.isdir(path):  # noqa: PTH112
        return Path(destination.plan(asset, planning.folder(path)))
    return planning.folder(path)


def alone(item: Item) -> dict[str, Any]:
    """Return an item as JSON without its assets but the archive; whole where it has none."""
    form = item.to_dict()
    with contextlib.suppress(ItemError):
        form["assets"] = {key: one for key, one in form["assets"].items() if key == item.data.key}
    return form


def planned(item: Item, folder: Path) -> Request | None:
    """Return the request for the archive of an item; None where it has none."""
    with contextlib.suppress(ItemError):
        return Request(item.data, str(final_path(item.data, folder)))
    return None


@contextlib.contextmanager
def opened(
    asset: Asset, path: Path, settings: Config, download: Callable[[], Path]
) -> Iterator[zipfile.ZipFile]:
    """Open the archive on disk, else on its server by ranges, else after a whole download.

    Args:
        asset: The archive.
        path: Its path on disk; a file of another size there is not used.
        settings: Key and credentials.
        download: Fetches the whole archive and returns its path.

    Raises:
        ArchiveError: it is no zip archive.
        GeodesTasksError: no source gives it.
    """
    with contextlib.ExitStack() as stack:
        if path.is_file() and path.stat().st_size == asset.size_bytes:
            # The size alone: reading single members, zip's own CRC-32 of each is checked anyway.
            yield stack.enter_context(members.local(path))
            return
        try:
            remote = members.remote(asset, direct_download.transports(settings))
            archive = stack.enter_context(remote)
        # A server may ignore Range and send the whole file (RFC 9110 section 14.2).
        except NoRangesError as error:
            html.write_line(f"{error}; downloading the whole archive to {path.parent}")
            archive = stack.enter_context(members.local(download()))
        yield archive
