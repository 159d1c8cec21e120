"""Page after page of a search, until everything it finds has come once; one page in memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from geodes_tasks.errors import SearchError
from geodes_tasks.stac.item_properties import identifier_of, mapping_of, property_of, text_of

logger = logging.getLogger(__name__)

PAGE_ITEMS = 80
"""Items requested on a page: the documented most. What counts is the limit in the answer."""
WINDOW_ITEMS = 10_000
"""Number of items that one search can page through: page times limit, at most.

The portal's index refuses more (index.max_result_window of Elasticsearch).
"""

EMPTY_PAGES = 10
"""Number of empty pages in a row, each with a link to a next one, that a search skips at most."""

Item = dict[str, Any]
Part = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of a search."""

    items: list[Item]
    """As they came; not yet without duplicates."""
    matched: int | None
    """How many the whole search finds, where the answer has it."""
    limit: int | None
    """Items on a full page, where the answer has it."""
    has_next: bool = False
    """Whether the answer links to a next page."""

    @classmethod
    def of(cls, answer: Mapping[str, Any]) -> Page:
        """Read an answer; ``context`` is optional, newer portals count at the top level."""
        context = answer.get("context")
        context = context if isinstance(context, dict) else {}
        matched = _count(context.get("matched"), answer.get("numberMatched"))
        has_next = any(link.get("rel") == "next" for link in objects_in(answer.get("links")))
        items = objects_in(answer.get("features"))
        return cls(items, matched, _count(context.get("limit")), has_next)


def objects_in(value: object) -> list[dict[str, Any]]:
    """Return the objects in a list; nothing for a value that is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def identity_of(item: Item) -> int:
    """Return one number for all copies of an item: of its id, else of its name and its assets."""
    # A number, because the ids of a million items take 100 MB as texts.
    name = text_of(item.get("id"))
    return hash(name or (identifier_of(item), *mapping_of(item.get("assets"))))


def _count(*values: object) -> int | None:
    return next((v for v in values if isinstance(v, int) and not isinstance(v, bool)), None)


class Results(Iterator[Item]):
    """The items that a search finds, each once, in its order."""

    missing: int
    """Items that the portal counts and did not deliver; known once all items have come."""
    is_cut: bool
    """True when the portal refused further pages and nothing parts the items after them."""

    def __init__(self, parts: Iterable[Part], fetch: Callable[[Part, int, int], Page]) -> None:
        """Begin; no request is sent before the first item is wanted.

        Args:
            parts: The plain searches that the search consists of, as JSON.
            fetch: Returns a page, from part, number of the page from 1, and number of items.
        """
        self.missing, self.is_cut = 0, False
        self._fetch = fetch
        # One number for each id: memory for a million items stays below that of a page of them.
        self._seen: dict[int, int] = {}
        self._items = self._walk(parts)

    def __next__(self) -> Item:
        """Return the next item.

        Raises:
            SearchError: the portal does not understand the search.
            CatalogueUnavailableError: a page cannot be had, however often it is requested.
        """
        return next(self._items)

    def _walk(self, parts: Iterable[Part]) -> Iterator[Item]:
        for number, part in enumerate(parts):
            yield from self._part(part, number)
        if self.missing:
            count = len(self._seen)
            logger.warning(
                "the portal counts %d items and delivered %d different ones: %d are missing. "
                "Run the search again, or in parts with --start and --end",
                count + self.missing,
                count,
                self.missing,
                extra={"action": "search_incomplete"},
            )

    def _part(self, part: Part, number: int) -> Iterator[Item]:
        counted: int | None = None
        distinct, wanted = 0, part.get("ids")
        for page, is_whole in self._pages(part):
            items = page.items
            if wanted is not None:
                # A portal that does not know `ids` finds all its items.
                items = [item for item in items if item.get("id") in wanted]
                if page.items and not items:
                    break
            for item in items:
                identity = identity_of(item)
                known = self._seen.get(identity)
                if known != number:
                    # An item of two boxes counts in each of them, and is delivered once.
                    distinct, self._seen[identity] = distinct + 1, number
                if known is None:
                    yield item
            if wanted is None and is_whole and page.matched is not None:
                # What is published meanwhile is not missing: the smallest count is right.
                counted = min(page.matched, page.matched if counted is None else counted)
        self.missing += max((counted or 0) - distinct, 0)

    def _pages(self, part: Part) -> Iterator[tuple[Page, bool]]:
        """Yield the pages of a search and, where the portal cuts it off, of what continues it.

        With each page comes whether it is one of the search itself, which counts all its items.
        """
        begin: Any = None
        while True:
            number, size, empty, last = 1, PAGE_ITEMS, 0, None
            ids: set[int] = set()
            while True:
                problem = "its window of results ends" if number * size > WINDOW_ITEMS else ""
                try:
                    page = None if problem else self._fetch(part, number, size)
                except SearchError as error:
                    if number == 1 and begin is None:
                        raise
                    page, problem = None, error.problem
                if page is None:
                    break
                yield page, begin is None
                known = len(ids)
                ids.update(map(identity_of, page.items))
                first, is_old = number == 1 and page.items, len(ids) == known
                empty = 0 if page.items else empty + 1
                if page.items and is_old:
                    logger.warning("a page of the search brought no new item: it ends there")
                if page.limit:
                    size = page.limit
                elif first and (page.has_next or len(page.items) < (page.matched or 0)):
                    # A portal that does not name its page length: that of a first page.
                    size = len(page.items)
                # A short page is the last one, unless a count or a link says that more follows; an
                # empty one too, for the portal may leave out what this account may not see.
                is_short = len(page.items) < size and not page.has_next
                is_last = is_short if page.matched is None else len(ids) >= page.matched
                skips = page.has_next and 0 < empty <= EMPTY_PAGES
                if is_last or (is_old and not skips):
                    return
                last = _sort_value(part, page.items[-1]) if page.items else last
                number += 1
            if last is None or last == begin:
                self.is_cut = True
                logger.warning("the portal refuses further pages: %s", problem)
                return
            part, begin = _continued(part, last), last


def _sort_value(part: Part, item: Item) -> Any:
    """Return the value of the first sort field of an item."""
    name = part["sortBy"][0]["field"].removeprefix("properties.")
    return property_of(item, name) or item.get(name)


def _continued(part: Part, last: Any) -> Part:
    """Return the search for what follows a value of the first sort field."""
    field = part["sortBy"][0]
    name = field["field"].removeprefix("properties.")
    operator = "gte" if field["direction"] == "asc" else "lte"
    query = dict(part.get("query") or {})
    query[name] = {**query.get(name, {}), operator: last}
    return {**part, "query": query}
