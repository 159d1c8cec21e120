"""The catalogue of the portal: searches, collections and availability, each request repeated alone.

A search becomes one or more plain searches (:mod:`geodes_tasks.stac.query`), which
:mod:`geodes_tasks.stac.paging` walks through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from geodes_tasks.errors import (
    CatalogueUnavailableError,
    GeodesTasksError,
    ItemNotFoundError,
    SearchError,
)
from geodes_tasks.model.formatting import printable
from geodes_tasks.model.json import compact
from geodes_tasks.settings.config import Config
from geodes_tasks.stac.item_properties import identifier_of, mapping_of, text_of
from geodes_tasks.stac.paging import PAGE_ITEMS, Item, Page, Results, identity_of, objects_in
from geodes_tasks.stac.query import Search, spellings
from geodes_tasks.transports.http.responses import parse_retry_after

if TYPE_CHECKING:
    # It loads requests, which a download of files without a search does not need.
    from geodes_tasks.transports.http.exchange import Reply

logger = logging.getLogger(__name__)

FEWEST_ITEMS = 10
"""Items of a page, at least, when pages are made smaller after a failure."""
ATTEMPTS = 6
"""Number of attempts at one request."""
LONGEST_WAIT_S = 60.0
"""Seconds between two attempts, at most."""
COLLECTIONS_LIMIT = 10_000
"""Number of collections requested at once: more than the portal has."""
NAMES_AT_ONCE = 50
"""Number of ids or product names in one search."""
_BUSY = {408, 425, 429, 500, 502, 503, 504}
_JSON = {"Content-Type": "application/json", "Accept": "application/geo+json, application/json"}


class Catalog:
    """The catalogue of one portal. Sends no key: search needs none."""

    def __init__(self, settings: Config) -> None:
        """Prepare; opens no connection."""
        from geodes_tasks.transports.http.http_client import HttpClient

        self.url = settings.portal_url
        self._wait_s = settings.backoff_seconds / 4
        self._client = HttpClient(settings, with_key=False)

    def search(self, search: Search) -> Results:
        """Return every item that a search finds, each once, in a total order.

        One page is in memory at a time; of the items before it only their ids are remembered.
        Iterating raises SearchError when the portal does not understand the search, and
        CatalogueUnavailableError when a page cannot be had.
        """
        return Results(search.parts(), self._page)

    def page(
        self, search: Search, number: int = 1, size: int = PAGE_ITEMS
    ) -> tuple[list[Item], int | None]:
        """Return one page of a search (its parts one after the other), and how many items match.

        Raises:
            SearchError: the portal does not understand the search.
            CatalogueUnavailableError: a page cannot be had, however often it is requested.
        """
        pages = [self._page(part, number, size) for part in search.parts()]
        items = (item for page in pages for item in page.items)
        by_id = {identity_of(item): item for item in items}
        return list(by_id.values()), _total(page.matched for page in pages)

    def count(self, search: Search) -> int | None:
        """Return how many items a search finds; None when the portal does not count them.

        Where a search has several parts that overlap, an item of two parts counts twice.

        Raises:
            SearchError, CatalogueUnavailableError: as ``page``.
        """
        return _total(self._page(part, 1, 1).matched for part in search.parts())

    def named(self, names: Sequence[str]) -> Iterator[Item | ItemNotFoundError]:
        """Yield the items of ids or product names, and an error for each name without an item.

        Args:
            names: URNs, identifiers or file names of archives, of THEIA with or without version.

        Raises:
            SearchError, CatalogueUnavailableError: as ``page``.
        """
        for start in range(0, len(names), NAMES_AT_ONCE):
            block = names[start : start + NAMES_AT_ONCE]
            found = list(self.search(Search(ids=block)))
            for name in dict.fromkeys(block):
                fitting = [item for item in found if _is_named(item, name)]
                problem = (
                    f"is no file, and {self.url} has neither an item nor a product of this name"
                )
                yield from fitting
                if not fitting:
                    yield ItemNotFoundError(printable(name), problem)

    def _page(self, part: Mapping[str, Any], number: int, size: int) -> Page:
        while True:
            body = {**part, "page": number, "limit": size}
            try:
                return Page.of(self._answer("/api/stac/search", body, "features"))
            except SearchError as error:
                # A portal with smaller pages may refuse the limit in place of cutting it.
                if number > 1 or "limit" not in error.problem.lower() or size <= FEWEST_ITEMS:
                    raise
                size = max(size // 2, FEWEST_ITEMS)

    def collections(
        self, query: Mapping[str, Any] | None = None, words: str | None = None
    ) -> list[dict[str, Any]]:
        """Return every collection that a query finds, as JSON.

        Args:
            query: ``{property: {operator: value}}``.
            words: That id, title, description and keywords must have between them.

        Raises:
            SearchError, CatalogueUnavailableError: as ``page``.
        """
        body: dict[str, Any] = {"page": 1, "limit": COLLECTIONS_LIMIT}
        if query:
            body["query"] = dict(query)
        answer = self._answer("/api/stac/collections", body, "collections")
        found = objects_in(answer["collections"])
        fields = ("id", "title", "description", "keywords")
        wanted = (words or "").lower().split()
        texts = (" ".join(str(one.get(name)) for name in fields).lower() for one in found)
        return [
            one for one, text in zip(found, texts, strict=True) if all(w in text for w in wanted)
        ]

    def availability(self, hrefs: Iterable[tuple[str, str]]) -> dict[str, bool]:
        """Return whether files are online, by their checksum (the end of their href).

        Args:
            hrefs: Pairs of a download href and the item's ``endpoint_url``.

        Returns:
            Only what the portal knows; a file that is missing here is unknown.

        Raises:
            SearchError, CatalogueUnavailableError: as ``page``.
        """
        from geodes_tasks.transports.http.availability import BULK, MOST, files_in

        files = [{"href": href, "endpointURL": endpoint} for href, endpoint in hrefs]
        online: dict[str, bool] = {}
        for start in range(0, len(files), MOST):
            block = {"availability": files[start : start + MOST]}
            found = files_in(self._answer(BULK, block, "products"))
            # Products of 2020 have their MD5 in upper case: it is the same MD5.
            online |= {checksum.lower(): state.online for _, checksum, state in found if checksum}
        return online

    def _answer(self, path: str, body: Mapping[str, Any], expected: str) -> dict[str, Any]:
        """Return the answer to a request; one that fails is repeated, alone.

        An object without the ``expected`` list is a failure too: a gateway may report one with 200.

        Raises:
            SearchError: the portal refuses the request.
            CatalogueUnavailableError: no answer after several attempts.
        """
        address, problem, wait_s = f"{self.url}{path}", "", 0.0
        question = compact(body).encode()
        for attempt in range(ATTEMPTS):
            time.sleep(wait_s)
            wait_s = min(self._wait_s * 2.0**attempt, LONGEST_WAIT_S)
            try:
                # A redirect is no answer to a search: it would lead to a login page.
                reply = self._client.fetch(address, headers=_JSON, body=question)
            except GeodesTasksError as error:
                # The message of an error begins with the address.
                problem = str(error).removeprefix(f"{address}: ")
            else:
                found = reply.json()
                if reply.status == 200 and isinstance(mapping_of(found).get(expected), list):
                    return dict(found)
                problem = _refusal(address, reply, found)
                named = parse_retry_after(
                    reply.headers.get("Retry-After"), now=datetime.now(UTC), most_s=LONGEST_WAIT_S
                )
                wait_s = max(wait_s, named or 0.0)
            logger.info("%s: %s", address, problem)
        raise CatalogueUnavailableError(address, f"{problem}, {ATTEMPTS} times")


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _refusal(address: str, reply: Reply, found: object) -> str:
    """Return the problem of an answer that another attempt may not have.

    Raises:
        SearchError: every attempt will.
    """
    status, words = reply.status, mapping_of(found)
    message = str(words.get("message") or words.get("detail") or "")[:300]
    if 400 <= status < 500 and status not in _BUSY:
        raise SearchError(f"{address}: HTTP {status}", message or "the portal refuses the search")
    missing = ", no JSON" if found is not words else ", no results" if status == 200 else ""
    return f"HTTP {status}" + (f": {message}" if message else missing)


def _is_named(item: Item, name: str) -> bool:
    """Return whether a name means an item; a version in the name must be the item's own."""
    own, (bare, *shorter) = identifier_of(item), spellings(name)
    if item.get("id") == name or own in (name, bare):
        return True
    assets = mapping_of(item.get("assets"))
    titles = {text_of(mapping_of(one).get("title")) or str(key) for key, one in assets.items()}
    return own in shorter and any(title.startswith(f"{bare}.") for title in titles)
