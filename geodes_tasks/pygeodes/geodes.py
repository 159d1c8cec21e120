"""``Geodes``: search and download with pygeodes' names, and its S3 client."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Self, cast

from geodes_tasks.client import direct_download, ledgers
from geodes_tasks.client.item_like import ItemLike, ItemsLike, check_text, check_texts
from geodes_tasks.errors import GeodesTasksError, NoDataAssetError
from geodes_tasks.model.asset import GEODES
from geodes_tasks.model.formatting import plural
from geodes_tasks.model.results import ErrorInfo
from geodes_tasks.model.states import State
from geodes_tasks.monitoring import html
from geodes_tasks.monitoring.wording import in_words
from geodes_tasks.pygeodes import archives
from geodes_tasks.pygeodes.download_queue import DownloadQueue
from geodes_tasks.pygeodes.instances import PORTALS
from geodes_tasks.pygeodes.item import Item, as_item, as_items
from geodes_tasks.pygeodes.item_search import ItemSearch
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer import members as archive_members
from geodes_tasks.transports.s3.credentials import has_credentials

if TYPE_CHECKING:
    # boto3 takes half a second to load.
    from geodes_tasks.pygeodes.explorer import Explorer


@lru_cache(maxsize=4)
def explorer(conf: Config) -> Explorer:
    """Return the S3 client of a configuration, kept while the configuration is the same."""
    from geodes_tasks.pygeodes.explorer import Explorer

    return Explorer(conf)


class Geodes(ItemSearch):
    """The portal, with a key, credentials and a download folder.

    Examples:
        >>> from geodes_tasks import Config, Geodes
        >>> geodes = Geodes(Config(download_dir="downloads"))
    """

    conf: Config
    """The configuration; a change counts from the next call on."""

    def __init__(self, conf: Config | None = None, base_url: str | None = None) -> None:
        """Use a configuration; without one, read the environment and pygeodes' file.

        Args:
            conf: Result of ``Config(...)`` or ``Config.from_file()``.
            base_url: Address of the portal, in place of the configured one.

        Raises:
            ConfigError: a value cannot be used.
        """
        self.set_conf(conf)
        if base_url is not None:
            self.conf = self.conf.replace()
            self.conf.portal_url = base_url
        # For `item.download_archive()`, which uses the last Geodes object, as in pygeodes.
        PORTALS.add(self)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Forget this object: items and queues use the one made before it."""
        PORTALS.remove(self)

    def set_conf(self, conf: Config | None) -> None:
        """Use another configuration from now on."""
        self.conf = config.of(conf)

    @classmethod
    def get_last_instance(cls) -> Geodes:
        """Return the last Geodes object that was made; log a warning if there are several."""
        # Only Geodes objects are added.
        return cast("Geodes", PORTALS.last())

    @property
    def settings(self) -> Config:
        """The settings as they are now."""
        return self.conf

    @property
    def base_url(self) -> str:
        """Address of the portal."""
        return self.settings.portal_url

    @property
    def s3_client(self) -> Explorer | None:
        """boto3 for the datalake, with the configured credentials; None without any."""
        return explorer(self.conf) if has_credentials(self.conf) else None

    @property
    def folder(self) -> Path:
        """The download folder, absolute."""
        return ledgers.folder_of(self.settings)

    def __repr__(self) -> str:
        """Name the portal; no secrets."""
        return f"Geodes({self.base_url!r}, {self.conf!r})"

    # --- download --------------------------------------------------------------------------------

    def download_item_archive(self, item: ItemLike, outfile: str | Path | None = None) -> Path:
        """Download the archive of an item; a verified file that is there already is kept.

        A broken connection or a used-up quota is waited for, then the download continues.

        Args:
            item: Our Item, or one of pygeodes, pystac or eodag, or plain JSON.
            outfile: File name: by default the original title, in the download folder.
                ``name.zip`` is in the download folder, ``./name.zip`` in the current one, and a
                name that is a folder gets the original title in it. A file that is there and
                is no copy of the archive stays: ``-1``, ``-2``, ... is put before the suffix of
                the new one, with a warning.

        Returns:
            The path of the file, verified by its checksum.

        Raises:
            KeyMissingError: the portal wants an API key and none is configured.
            GeodesTasksError: the download failed; no unverified file is at the final name.

        Examples:
            >>> path = geodes.download_item_archive(item)
            >>> path.parent.name, path.suffix
            ('downloads', '.zip')
        """
        asset = as_item(item).data
        final = archives.final_path(asset, self.folder, outfile)
        with html.progress_view() as picture:
            result = direct_download.download(
                asset, final, self.settings, picture=picture, notify=html.write_line
            )
        return Path(result.path)

    download_item = download_item_archive

    def download_item_archives(
        self, items: ItemsLike, outfiles: Sequence[str | Path | None] | None = None
    ) -> list[Path | None]:
        """Download the archives of items; one that fails does not stop the others.

        Args:
            items: Anything that holds items.
            outfiles: A file name for each, as for ``download_item_archive``. Without them the
                items go through a DownloadQueue, several at a time.

        Returns:
            A path for each item, in their order; None where it failed, with a line that says why.

        Raises:
            TypeError, ValueError: the names are one text, or more or fewer than the items; nothing
                was downloaded.

        Examples:
            >>> [path.suffix for path in geodes.download_item_archives(items)]
            ['.zip', '.zip', '.zip']
        """
        wanted = list(as_items(items))
        if outfiles is None:
            queue = DownloadQueue(list(map(archives.alone, wanted)), conf=self.conf)
            queue.run()
            done = {one.download_id for one in queue.results if one.state is State.SUCCESS}
            finals = [archives.planned(one, self.folder) for one in wanted]
            return [Path(one.path) if one and one.download_id in done else None for one in finals]
        if isinstance(outfiles, str):
            raise TypeError(f"outfiles is a list, such as [{outfiles!r}]")
        if len(outfiles) != len(wanted):
            raise ValueError(f"{len(outfiles)} names for {plural(len(wanted), 'item')}")
        # One at a time: two items may be given one name, and the second must see the first.
        paths: list[Path | None] = []
        for item, outfile in zip(wanted, outfiles, strict=True):
            try:
                paths.append(self.download_item_archive(item, outfile))
            except GeodesTasksError as error:
                html.write_line(in_words("failed", ErrorInfo.of(error)))
                paths.append(None)
        return paths

    def quicklook(self, item: ItemLike) -> bytes:
        """Return the bytes of an item's preview.

        Raises:
            GeodesTasksError: there is none, or no server gives it.
        """
        asset = as_item(item).quicklook_asset
        if asset is None:
            raise NoDataAssetError(as_item(item).id, "has no quicklook")
        with direct_download.transports(self.settings)[GEODES].open(asset.href) as body:
            return b"".join(body.chunks)

    # --- members of archives ---------------------------------------------------------------------

    def list_item_files(self, item: ItemLike) -> list[str]:
        """Return the names in an item's archive, without downloading it where the server allows.

        Where it does not, the archive is downloaded whole to the download folder, and kept.

        Raises:
            ArchiveError: the item is no zip archive.
            GeodesTasksError: as ``download_item_archive``.

        Examples:
            >>> geodes.list_item_files(item)
            ['0.tif']
        """
        with self._opened(as_item(item)) as archive:
            return archive.namelist()

    def download_item_files(
        self,
        item: ItemLike,
        filenames: Sequence[str] | None = None,
        pattern: str | None = None,
        *,
        members: Sequence[str] | None = None,
    ) -> list[Path]:
        """Download single files of an item's archive, to their path in it below the folder.

        A file that is there and is no copy stays: the new one gets another name, as for
        ``download_item_archive``.

        Args:
            item: As for ``download_item_archive``.
            filenames: Names as ``list_item_files`` returns them.
            pattern: A regular expression that whole names match, or a glob such as
                ``*_B4.tif``, in place of ``filenames``.
            members: Globs over paths or names, each with at least one match, in place of both.

        Raises:
            TypeError: not exactly one of the three was given, or a text in place of a list.
            NoMemberError: a name, the pattern or a glob matches no file; the error names some.
            ArchiveError: it is no zip archive, or it is damaged.
            GeodesTasksError: as ``download_item_archive``.

        Examples:
            >>> [path.name for path in geodes.download_item_files(item, pattern="*.tif")]
            ['0.tif']
        """
        if [filenames, pattern, members].count(None) != 2:
            raise TypeError("give one of filenames, pattern and members")
        names: Sequence[str]
        wanted, globs = check_texts("filenames", filenames), check_texts("members", members)
        with self._opened(as_item(item)) as archive:
            title = as_item(item).data.title
            if pattern is not None:
                names = archive_members.matching(archive, check_text("pattern", pattern), title)
            elif members is not None:
                names = archive_members.globbed(archive, globs, title)
            else:
                names = archive_members.named(archive, wanted, title)
            return archive_members.extract(archive, names, self.folder)

    def _opened(self, item: Item) -> AbstractContextManager[zipfile.ZipFile]:
        path = archives.final_path(item.data, self.folder)
        return archives.opened(
            item.data, path, self.settings, lambda: self.download_item_archive(item)
        )
