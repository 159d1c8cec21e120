"""The items that a search finds, with the limit and the lines of output that pygeodes has."""

from __future__ import annotations

from geodes_tasks.errors import TooManyItemsError
from geodes_tasks.monitoring import html
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.stac.catalog import Catalog
from geodes_tasks.stac.query import Search


def all_items(catalog: Catalog, search: Search, allowed: int, *, quiet: bool) -> list[Item]:
    """Return every item that a search finds.

    Args:
        catalog: The portal's catalogue.
        search: The search.
        allowed: Number of items at most.
        quiet: Write nothing.

    Raises:
        TooManyItemsError: the portal counts more; no item was fetched.
        SearchError, CatalogueUnavailableError: as ``Geodes.search_items``.
    """
    # One request of its own: the count decides before hundreds of pages are fetched.
    matched = catalog.count(search)
    if not quiet:
        number = "an unknown number of" if matched is None else matched
        html.write_line(f"Found {number} items matching your query")
    if matched is not None and matched > allowed:
        raise TooManyItemsError(matched, allowed)
    return [Item.from_dict(found) for found in catalog.search(search)]


def items_on_page(catalog: Catalog, search: Search, page: int, *, quiet: bool) -> list[Item]:
    """Return the items of one page, numbered from 1.

    Raises:
        SearchError, CatalogueUnavailableError: as ``Geodes.search_items``.
    """
    found, matched = catalog.page(search, page)
    if not quiet:
        of = "" if matched is None else f" of {matched}"
        html.write_line(f"Page {page}: {len(found)}{of} items matching your query")
    return [Item.from_dict(one) for one in found]
