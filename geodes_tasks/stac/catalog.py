"""Search of the portal's catalogue, its traps included: one page in memory, nothing lost or twice.

What is asked for becomes one or more plain searches (:mod:`geodes_tasks.stac.query`); this module
sends them, page after page, and repeats a page that fails without touching the others.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from geodes_tasks.errors import CatalogueUnavailableError, GeodesTasksError, SearchError
from geodes_tasks.model.json import compact
from geodes_tasks.stac.query import Search
from geodes_tasks.transports.http.exchange import Reply
from geodes_tasks.transports.http.http_client import HttpClient
from geodes_tasks.transports.http.responses import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from geodes_tasks.settings.config import Settings

logger = logging.getLogger(__name__)

PAGE_ITEMS = 80
"""Items asked for on a page: the documented most. What counts is what the answer says."""
FEWEST_ITEMS = 10
"""Items of a page, at least, when pages are made smaller after a failure."""
ATTEMPTS = 6
"""Of one page."""
LONGEST_WAIT_S = 60.0
"""Seconds between two attempts, at most."""
COLLECTIONS_LIMIT = 10_000
"""Number of collections requested at once: more than the portal has."""
AVAILABILITY_ITEMS = 100
"""Products that one availability request may name."""
_BUSY = {408, 425, 429, 500, 502, 503, 504}

_JSON = {"Content-Type": "application/json", "Accept": "application/geo+json, application/json"}

Item = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a search."""

    items: list[Item]
    """As they came; not yet without duplicates."""
    matched: int | None
    """How many the whole search finds, where the answer says it."""
    limit: int | None
    """Items on a full page, where the answer says it."""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Page:
        """Read an answer; ``context`` is optional, newer portals count at the top level."""
        features = _objects(answer.get("features"))
        context = answer.get("context")
        context = context if isinstance(context, dict) else {}
        matched = _count(context.get("matched"), answer.get("numberMatched"))
        return cls(features, matched, _count(context.get("limit")))


def _objects(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list; nothing for a value that is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _count(*values: object) -> int | None:
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)


class Catalog:
    """The catalogue of one portal. Sends no key: search needs none."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; opens no connection."""
        self.url = settings.portal_url
        self._wait_s = settings.backoff_seconds / 4
        self._client = HttpClient(settings, with_key=False)

    # --- items -----------------------------------------------------------------------------------

    def search(self, search: Search) -> Iterator[Item]:
        """Yield every item that a search finds, each once, in a total order.

        One page is held at a time; of the items before it only their ids are remembered.

        Raises:
            SearchError: the portal does not understand the search.
            CatalogueUnavailableError: a page cannot be had, however often it is asked for.
        """
        seen: set[int] = set()
        for part in search.parts():
            for page in self._pages(part):
                yield from _unseen(page.items, seen)

    def page(self, search: Search, number: int = 1) -> tuple[list[Item], int | None]:
        """Return one page of a search (its parts one after the other), and how many items match.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search``.
        """
        seen: set[int] = set()
        pages = [self._page(part, number, PAGE_ITEMS) for part in search.parts()]
        items = [item for page in pages for item in _unseen(page.items, seen)]
        return items, _total(page.matched for page in pages)

    def count(self, search: Search) -> int | None:
        """Return how many items a search finds; None when the portal does not count them.

        Where a search has several parts that overlap, an item of two parts counts twice.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search``.
        """
        return _total(self._page(part, 1, 1).matched for part in search.parts())

    def _pages(self, part: Mapping[str, Any]) -> Iterator[Page]:
        """Walk through one search; only the answers tell how long a page is and where the end."""
        number, received, size = 1, 0, PAGE_ITEMS
        while True:
            page = self._page(part, number, size)
            received += len(page.items)
            yield page
            size = page.limit or _guessed_size(page, number, size)
            whole = len(page.items) >= size
            # A short page is the last one, unless the count says that more must follow.
            known = page.matched is not None
            if not page.items or (known and received >= (page.matched or 0)):
                return
            if not whole and not known:
                return
            number += 1

    def _page(self, part: Mapping[str, Any], number: int, size: int) -> Page:
        while True:
            try:
                answer = self._asked("/api/stac/search", {**part, "page": number, "limit": size})
            except SearchError as error:
                # A portal with smaller pages may refuse the limit in place of cutting it.
                if number > 1 or "limit" not in error.problem.lower() or size <= FEWEST_ITEMS:
                    raise
                size = max(size // 2, FEWEST_ITEMS)
            else:
                return Page.of(answer)

    # --- the rest of the catalogue ---------------------------------------------------------------

    def collections(
        self, query: Mapping[str, Any] | None = None, words: str | None = None
    ) -> list[dict[str, Any]]:
        """Return every collection that a query finds, as JSON.

        Args:
            query: ``{property: {operator: value}}``.
            words: That id, title, description and keywords must have between them.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search``.
        """
        body: dict[str, Any] = {"page": 1, "limit": COLLECTIONS_LIMIT}
        if query:
            body["query"] = dict(query)
        found = _objects(self._asked("/api/stac/collections", body).get("collections"))
        return [one for one in found if _has(one, words)]

    def item(self, collection: str, identifier: str) -> Item:
        """Return one item by its id.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search``.
        """
        path = f"/api/stac/collections/{quote(collection)}/items/{quote(identifier, safe=':')}"
        return self._asked(path, None)

    def availability(self, hrefs: Iterable[tuple[str, str]]) -> dict[str, bool]:
        """Return whether files are online, by their checksum (the end of their href).

        Args:
            hrefs: Pairs of a download href and the item's ``endpoint_url``.

        Returns:
            Only what the portal knows; a file that is missing here is unknown.

        Raises:
            SearchError, CatalogueUnavailableError: as ``search``.
        """
        asked = [{"href": href, "endpointURL": endpoint} for href, endpoint in hrefs]
        online: dict[str, bool] = {}
        for start in range(0, len(asked), AVAILABILITY_ITEMS):
            block = asked[start : start + AVAILABILITY_ITEMS]
            online |= _online(self._asked("/fastavailability", {"availability": block}))
        return online

    # --- requests ------------------------------------------------------------------------------

    def _asked(self, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        """Ask until there is an answer; a page that fails is asked for again, alone.

        Raises:
            SearchError: the portal refuses the question.
            CatalogueUnavailableError: no answer after several attempts.
        """
        address, problem, wait_s = f"{self.url}{path}", "", 0.0
        question = None if body is None else compact(body).encode()
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
                if isinstance(found, dict) and reply.status == 200:
                    return found
                problem = _refusal(address, reply, found)
                wait_s = max(wait_s, _retry_after_s(reply))
            logger.info("%s: %s", address, problem)
        raise CatalogueUnavailableError(address, f"{problem}, {ATTEMPTS} times")


def _refusal(address: str, reply: Reply, found: object) -> str:
    """Return the problem of an answer that another attempt may not have.

    Raises:
        SearchError: no attempt will.
    """
    status, is_json = reply.status, isinstance(found, dict)
    words = found if isinstance(found, dict) else {}
    said = str(words.get("message") or words.get("detail") or "")[:300]
    if 400 <= status < 500 and status not in _BUSY:
        raise SearchError(f"{address}: HTTP {status}", said or "the portal refuses the search")
    return f"HTTP {status}" + (f": {said}" if said else "" if is_json else ", no JSON")


def _online(answer: Mapping[str, Any]) -> dict[str, bool]:
    """Read which files an answer says are online, by checksum; what is malformed is unknown."""
    files = [
        file
        for product in _objects(answer.get("products"))
        for file in _objects(product.get("files"))
    ]
    return {
        # Products of 2020 have their MD5 in upper case: it is the same MD5.
        file["checksum"].lower(): bool(file.get("available"))
        for file in files
        if isinstance(file.get("checksum"), str)
    }


def _retry_after_s(reply: Reply) -> float:
    """Return the wait that the server requests, in seconds; 0 when it names none."""
    value = reply.headers.get("Retry-After")
    return parse_retry_after(value, now=datetime.now(UTC), most_s=LONGEST_WAIT_S) or 0.0


def _guessed_size(page: Page, number: int, size: int) -> int:
    """Return the page length of a portal that does not name it: the length of a first page."""
    more = page.matched is not None and page.matched > len(page.items)
    return len(page.items) if number == 1 and more and page.items else size


def _total(counts: Iterable[int | None]) -> int | None:
    known = list(counts)
    return None if None in known else sum(count for count in known if count is not None)


def _unseen(items: Iterable[Item], seen: set[int]) -> Iterator[Item]:
    """Drop items whose id came before; one number an id is remembered."""
    for item in items:
        identity = hash(str(item.get("id")))
        if identity not in seen:
            seen.add(identity)
            yield item


def _has(collection: Mapping[str, Any], words: str | None) -> bool:
    fields = (collection.get(name) for name in ("id", "title", "description", "keywords"))
    text = " ".join(map(str, fields)).lower()
    return all(word in text for word in (words or "").lower().split())
