"""``Geodes``: search and download as pygeodes' users write it."""

from __future__ import annotations

import contextlib
import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodes_tasks.client import direct_download
from geodes_tasks.client import run as runs
from geodes_tasks.errors import (
    GeodesTasksError,
    NoRangesError,
    SearchError,
    TooManyItemsError,
)
from geodes_tasks.model.asset import GEODES
from geodes_tasks.model.states import State
from geodes_tasks.monitoring import notebook
from geodes_tasks.pygeodes import tables
from geodes_tasks.pygeodes.config_shim import NB_MAX_ITEMS, Config
from geodes_tasks.pygeodes.download_queue import DownloadQueue
from geodes_tasks.pygeodes.item import PORTALS, Collection, Item, as_item, as_items
from geodes_tasks.pygeodes.s3_explore import explorer
from geodes_tasks.settings.config import Settings
from geodes_tasks.stac.catalog import Catalog
from geodes_tasks.stac.query import Search
from geodes_tasks.transfer import destination, members

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterator, Sequence

    from geodes_tasks.pygeodes.s3_explore import Explorer

logger = logging.getLogger(__name__)


class Geodes:
    """The portal, with a key, credentials and a download folder."""

    conf: Config
    """May be changed at any time; what it says counts from the next call on."""

    def __init__(self, conf: Config | Settings | None = None, base_url: str | None = None) -> None:
        """Take a configuration; without one, environment and pygeodes' file are read.

        Args:
            conf: From ``Config(...)`` or ``Config.from_file()``.
            base_url: Another portal than the configured one.

        Raises:
            ConfigError: a value cannot be used.
        """
        self.set_conf(conf)
        if base_url is not None:
            self.conf = self.conf.replaced(portal_url=base_url)
        PORTALS.add(self)

    def set_conf(self, conf: Config | Settings | None) -> None:
        """Use another configuration from now on."""
        if isinstance(conf, Settings):
            conf = Config(**{name: getattr(conf, name) for name in conf.model_fields_set})
        self.conf = conf if conf is not None else Config()

    @classmethod
    def get_last_instance(cls) -> Any:
        """Give the last Geodes object that was made; says so when there were several."""
        return PORTALS.last()

    @property
    def settings(self) -> Settings:
        """The settings as they are now."""
        return self.conf.settings

    @property
    def base_url(self) -> str:
        """Address of the portal."""
        return self.settings.portal_url

    @property
    def s3_client(self) -> Explorer | None:
        """boto3 for the datalake, with the configured credentials; None without any."""
        return explorer(self.settings)

    @property
    def catalog(self) -> Catalog:
        """The catalogue of the portal."""
        return Catalog(self.settings)

    def __repr__(self) -> str:
        """Name the portal; no secrets."""
        return f"Geodes({self.base_url!r}, {self.conf!r})"

    # --- search ----------------------------------------------------------------------------------

    def search_items(
        self,
        query: dict[str, Any] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: Any = None,
        get_all: bool = False,
        page: int = 1,
        sortBy: Sequence[Any] | None = None,  # noqa: N803 - pygeodes' name
        return_df: bool = True,
        quiet: bool = False,
        collections: Sequence[str] | str | None = None,
        *,
        start: Any = None,
        end: Any = None,
    ) -> Any:
        """Search for items.

        Args:
            query: ``{property: {operator: value}}``.
            bbox: West, south, east, north.
            intersects: GeoJSON geometry, in place of ``bbox``.
            get_all: Every item, not only one page.
            page: Which page, from 1, without ``get_all``.
            sortBy: ``[{"field": ..., "direction": "asc"}]``; made a total order by itself.
            return_df: Whether to give a table too, as pygeodes does.
            quiet: Say nothing.
            collections: Ids of collections.
            start: Acquired then or later: a time, or text such as ``2025-04-02``.
            end: Acquired then or earlier.

        Returns:
            ``(items, table)``, or with ``return_df=False`` the items alone. A table is a
            GeoDataFrame where geopandas is installed.

        Raises:
            SearchError: nothing limits the search, or the portal does not understand it.
            TooManyItemsError: more than ``conf.nb_max_items`` with ``get_all``.
            CatalogueUnavailableError: the portal does not answer.
        """
        search = Search(
            query=query,
            bbox=bbox,
            intersects=intersects,
            collections=collections,
            start=start,
            end=end,
            sort_by=sortBy,
        )
        if search.is_everything:
            raise SearchError("search", "give a query, bbox, intersects, collections or a time")
        items = self._all(search, quiet) if get_all else self._page(search, page, quiet)
        return (items, tables.items_table(items, query or ())) if return_df else items

    def _all(self, search: Search, quiet: bool) -> list[Item]:
        catalog = self.catalog
        matched = catalog.count(search)
        if not quiet:
            number = "an unknown number of" if matched is None else matched
            notebook.say(f"Found {number} items matching your query")
        allowed = self.conf.nb_max_items
        if matched is not None and allowed != NB_MAX_ITEMS and matched > allowed:
            raise TooManyItemsError(matched, allowed)
        return [Item.from_dict(found) for found in catalog.search(search)]

    def _page(self, search: Search, page: int, quiet: bool) -> list[Item]:
        found, matched = self.catalog.page(search, page)
        if not quiet:
            of = "" if matched is None else f" of {matched}"
            notebook.say(f"Page {page}: {len(found)}{of} items matching your query")
        return [Item.from_dict(one) for one in found]

    def iter_items(self, **search: Any) -> Iterator[Item]:
        """Give every item that a search finds, one after the other, one page in memory.

        Args:
            **search: As for ``search_items``: query, bbox, intersects, collections, start, end,
                sort_by, ids.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search_items``.
        """
        return map(Item.from_dict, self.catalog.search(Search(**search)))

    def search_collections(
        self,
        full_text_search: str | None = None,
        query: dict[str, Any] | None = None,
        return_df: bool = True,
        quiet: bool = False,
    ) -> Any:
        """Search for collections.

        Args:
            full_text_search: Words that id, title, description or keywords must have.
            query: ``{property: {operator: value}}``.
            return_df: Whether to give a table too, as pygeodes does.
            quiet: Say nothing.

        Returns:
            ``(collections, table)``, or with ``return_df=False`` the collections alone.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search_items``.
        """
        found = self.catalog.collections(query, words=full_text_search)
        if not quiet:
            notebook.say(f"Found {len(found)} collections")
        made = [Collection.from_dict(one) for one in found]
        return (made, tables.collections_table(made, query or ())) if return_df else made

    # --- download --------------------------------------------------------------------------------

    def download_item_archive(self, item: Any, outfile: str | Path | None = None) -> Path:
        """Download the archive of an item; one that is there already and right is left alone.

        Passing trouble (a broken connection, a used-up quota) is waited out.

        Args:
            item: Our Item, or one of pygeodes, pystac or eodag, or plain JSON.
            outfile: File name: by default the original title, in the download folder.
                ``name.zip`` is in the download folder, ``./name.zip`` in the current one. A file
                of this name that is no copy of the archive stays: ``-1``, ``-2``, ... is put
                before the suffix, with a warning.

        Returns:
            The path of the file, proven by its checksum.

        Raises:
            GeodesTasksError: what failed and what to do; nothing unproven is at the final name.
        """
        asset = as_item(item).data
        final = self._final(asset, outfile)
        with notebook.progress() as picture:
            result = direct_download.download(
                asset, final, self.settings, picture=picture, say=notebook.say
            )
        return Path(result.path)

    download_item = download_item_archive

    def download_item_archives(
        self, items: Any, outfiles: Sequence[str | Path | None] | None = None
    ) -> list[Path | None]:
        """Download the archives of items; one that fails does not stop the others.

        Args:
            items: Anything that holds items.
            outfiles: A file name for each, as for ``download_item_archive``. Without them the
                items go through a DownloadQueue, several at a time.

        Returns:
            A path for each item, in their order; None where it failed, which is said.
        """
        wanted = list(as_items(items))
        if outfiles is None:
            queue = DownloadQueue(wanted, settings=self.settings)
            queue.run()
            done = {one.item_id: one for one in queue.results if one.state is State.SUCCESS}
            return [Path(done[one.id].path) if one.id in done else None for one in wanted]
        return [self._tried(*pair) for pair in zip(wanted, outfiles, strict=True)]

    def _tried(self, item: Item, outfile: str | Path | None) -> Path | None:
        try:
            return self.download_item_archive(item, outfile)
        except GeodesTasksError as error:
            notebook.say(f"failed: {str(error).rstrip('.')}. {error.hint}".rstrip())
            return None

    @property
    def folder(self) -> Path:
        """The download folder, absolute."""
        return runs.folder_of(self.settings)

    def _final(self, asset: Any, outfile: str | Path | None) -> Path:
        if outfile is None:
            return destination.plan(asset, self.folder).final
        text = str(outfile)
        here = re.match(r"\.{1,2}/", text)
        return (Path(text) if here else self.folder / Path(text).expanduser()).absolute()

    def quicklook(self, item: Any) -> bytes:
        """Give the bytes of an item's preview.

        Raises:
            GeodesTasksError: there is none, or it cannot be had.
        """
        asset = as_item(item).quicklook_asset
        if asset is None:
            raise SearchError(as_item(item).id, "has no quicklook")
        with direct_download.transports(self.settings)[GEODES].open(asset.href) as body:
            return b"".join(body.chunks)

    # --- members of archives ---------------------------------------------------------------------

    def list_item_files(self, item: Any) -> list[str]:
        """Name the files in an item's archive, without downloading it where the server allows.

        Where it does not, the archive is downloaded whole to the download folder, and kept.

        Raises:
            ArchiveError: the item is no zip archive.
            GeodesTasksError: as ``download_item_archive``.
        """
        with self._opened(as_item(item)) as opened:
            return members.members(opened)

    def download_item_files(
        self, item: Any, filenames: Sequence[str] | None = None, pattern: str | None = None
    ) -> list[Path]:
        """Download single files of an item's archive, to their path in it below the folder.

        A file that is there and is no copy stays: the new one gets another name, as for
        ``download_item_archive``.

        Args:
            item: As for ``download_item_archive``.
            filenames: Names as ``list_item_files`` gives them.
            pattern: A regular expression that whole names match, or a glob such as
                ``*_B4.tif``, in place of ``filenames``.

        Raises:
            SearchError: both or neither of them were given.
            ArchiveError: there is no such file in it, or it is damaged.
            GeodesTasksError: as ``download_item_archive``.
        """
        if (filenames is None) == (pattern is None):
            raise SearchError("download_item_files", "give either filenames or a pattern")
        with self._opened(as_item(item)) as opened:
            names = members.matching(opened, pattern) if pattern is not None else filenames
            return members.extract(opened, names or (), self.folder)

    @contextlib.contextmanager
    def _opened(self, item: Item) -> Iterator[zipfile.ZipFile]:
        """Open the archive on disk if it is there, else where it is, else download it."""
        asset = item.data
        path = self._final(asset, None)
        with contextlib.ExitStack() as stack:
            if path.is_file() and path.stat().st_size == asset.size_bytes:
                yield stack.enter_context(members.local(path))
                return
            try:
                opened = stack.enter_context(
                    members.remote(asset, direct_download.transports(self.settings))
                )
            except NoRangesError as error:
                notebook.say(f"{error}; downloading the whole archive to {path.parent}")
                path = self.download_item_archive(item)
                opened = stack.enter_context(members.local(path))
            yield opened

    # --- availability ----------------------------------------------------------------------------

    def check_item_availability(self, item: Any, raw: bool = False) -> Any:
        """Tell whether the files of an item are online or on tape.

        Returns:
            ``{"data": "available", ...}``: the archive as ``data``, other files by their key;
            with ``raw``, a bool by checksum, as the portal says it.

        Raises:
            SearchError, CatalogueUnavailableError: the portal does not say.
        """
        known = as_item(item)
        endpoint = str(known.find("endpoint_url") or "")
        hrefs = [(asset.href, endpoint) for asset in known.assets.values()]
        online = self.catalog.availability(hrefs)
        return online if raw else _in_words(known, online)


def _in_words(item: Item, online: dict[str, bool]) -> dict[str, str]:
    words = {True: "available", False: "not available", None: "unknown"}
    data = item.data_key
    return {
        "data" if key == data else key: words[online.get(str(getattr(asset, "checksum", "")))]
        for key, asset in item.assets.items()
    }
