"""Search of the catalogue with pygeodes' names: items, collections, what is online."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from geodes_tasks.client.item_like import ItemLike, check_text
from geodes_tasks.errors import SearchError, TooManyItemsError
from geodes_tasks.model.formatting import plural
from geodes_tasks.monitoring import html
from geodes_tasks.pygeodes import tables
from geodes_tasks.pygeodes.item import Collection, Item, as_item
from geodes_tasks.settings.config import Config
from geodes_tasks.stac.catalog import Catalog
from geodes_tasks.stac.query import Moment, Search


class ItemSearch:
    """The searches of a :class:`Geodes` object."""

    conf: Config

    @property
    def catalog(self) -> Catalog:
        """The catalogue of the portal."""
        return Catalog(self.conf)

    @overload
    def search_items(
        self,
        query: dict[str, Any] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: object = None,
        get_all: bool = False,
        page: int = 1,
        sortBy: Sequence[Any] | None = None,  # noqa: N803
        return_df: Literal[True] = True,
        quiet: bool = False,
        collections: Sequence[str] | str | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> tuple[list[Item], Any]: ...

    @overload
    def search_items(
        self,
        query: dict[str, Any] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: object = None,
        get_all: bool = False,
        page: int = 1,
        sortBy: Sequence[Any] | None = None,  # noqa: N803
        *,
        return_df: Literal[False],
        quiet: bool = False,
        collections: Sequence[str] | str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> list[Item]: ...

    def search_items(
        self,
        query: dict[str, Any] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: object = None,
        get_all: bool = False,
        page: int = 1,
        sortBy: Sequence[Any] | None = None,  # noqa: N803 - pygeodes' name
        return_df: bool = True,
        quiet: bool = False,
        collections: Sequence[str] | str | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
    ) -> tuple[list[Item], Any] | list[Item]:
        """Search for items.

        Args:
            query: ``{property: {operator: value}}``.
            bbox: West, south, east, north in degrees.
            intersects: GeoJSON geometry, in place of ``bbox``.
            get_all: Return every item, not only one page.
            page: Number of the page, from 1, without ``get_all``.
            sortBy: ``[{"field": ..., "direction": "asc"}]``; made a total order by itself.
            return_df: Return a table too, as pygeodes does.
            quiet: Write nothing.
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

        Examples:
            >>> items, table = geodes.search_items(
            ...     collections=["PEPS_S2_L1C"], start="2025-01-01", get_all=True, quiet=True
            ... )
            >>> len(items), len(table)
            (3, 3)
        """
        if not isinstance(page, int) or page < 1:
            raise SearchError("page", f"is a whole number from 1, not {page!r}")
        search = Search(
            query=query, bbox=bbox, intersects=intersects, collections=collections, start=start,
            end=end, sort_by=sortBy,
        ).limited()  # fmt: skip
        if get_all:
            # One request of its own: the count decides before hundreds of pages are fetched.
            matched = self.catalog.count(search)
            if not quiet:
                number = (
                    "an unknown number of items" if matched is None else plural(matched, "item")
                )
                html.write_line(f"Found {number} matching your query")
            if matched is not None and matched > self.conf.nb_max_items:
                raise TooManyItemsError(matched, self.conf.nb_max_items)
            found = list(self.catalog.search(search))
        else:
            found, matched = self.catalog.page(search, page)
            if not quiet:
                whole = plural(len(found) if matched is None else matched, "item")
                shown = "" if matched is None else f"{len(found)} of "
                html.write_line(f"Page {page}: {shown}{whole} matching your query")
        items = [Item.from_dict(one) for one in found]
        return (items, tables.format_items(items, query)) if return_df else items

    def iter_items(
        self,
        query: Mapping[str, Any] | None = None,
        bbox: Sequence[float] | None = None,
        intersects: object = None,
        sortBy: Sequence[Any] | None = None,  # noqa: N803 - as in ``search_items``
        collections: Sequence[str] | str | None = None,
        *,
        start: Moment | None = None,
        end: Moment | None = None,
        ids: Sequence[str] | str | None = None,
    ) -> Iterator[Item]:
        """Yield every item that a search finds, with one page in memory.

        Args:
            query: ``{property: {operator: value}}``.
            bbox: West, south, east, north in degrees.
            intersects: GeoJSON geometry, in place of ``bbox``.
            sortBy: ``[{"field": ..., "direction": "asc"}]``; made a total order by itself.
            collections: Ids of collections.
            start: Acquired then or later.
            end: Acquired then or earlier.
            ids: Ids of items (URNs), or identifiers of products.

        Raises:
            SearchError: nothing limits the search, or the portal does not understand it.
            CatalogueUnavailableError: the portal does not answer.

        Examples:
            >>> sum(1 for _ in geodes.iter_items(collections=["PEPS_S2_L1C"]))
            3
        """
        search = Search(
            query=query, bbox=bbox, intersects=intersects, collections=collections, start=start,
            end=end, ids=ids, sort_by=sortBy,
        ).limited()  # fmt: skip
        return map(Item.from_dict, self.catalog.search(search))

    @overload
    def search_collections(
        self,
        full_text_search: str | None = None,
        query: dict[str, Any] | None = None,
        return_df: Literal[True] = True,
        quiet: bool = False,
    ) -> tuple[list[Collection], Any]: ...

    @overload
    def search_collections(
        self,
        full_text_search: str | None = None,
        query: dict[str, Any] | None = None,
        *,
        return_df: Literal[False],
        quiet: bool = False,
    ) -> list[Collection]: ...

    def search_collections(
        self,
        full_text_search: str | None = None,
        query: dict[str, Any] | None = None,
        return_df: bool = True,
        quiet: bool = False,
    ) -> tuple[list[Collection], Any] | list[Collection]:
        """Search for collections.

        Args:
            full_text_search: Words that id, title, description or keywords must have.
            query: ``{property: {operator: value}}``.
            return_df: Return a table too, as pygeodes does.
            quiet: Write nothing.

        Returns:
            ``(collections, table)``, or with ``return_df=False`` the collections alone.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search_items``.

        Examples:
            >>> found = geodes.search_collections("PEPS S2", return_df=False, quiet=True)
            >>> "PEPS_S2_L1C" in [collection.id for collection in found]
            True
        """
        words = full_text_search
        if words is not None:
            check_text("full_text_search", words)
        found = self.catalog.collections(Search(query=query).query, words=words)
        if not quiet:
            html.write_line(f"Found {plural(len(found), 'collection')}")
        made = [Collection.from_dict(one) for one in found]
        return (made, tables.format_collections(made, query)) if return_df else made

    def check_item_availability(self, item: ItemLike, raw: bool = False) -> dict[str, Any]:
        """Return whether the files of an item are online or on tape.

        Returns:
            ``{"data": "available", ...}``: the archive as ``data``, other files by their key;
            with ``raw``, a bool by checksum.

        Raises:
            SearchError, CatalogueUnavailableError: the portal does not report it.

        Examples:
            >>> geodes.check_item_availability(item)["data"]
            'available'
        """
        # The portal wants href and datalake address together, and answers by checksum.
        known = as_item(item)
        endpoint = str(known.find("endpoint_url") or "")
        hrefs = [(asset.href, endpoint) for asset in known.assets.values()]
        online = self.catalog.availability(hrefs)
        return dict(online) if raw else known.availability(online)
