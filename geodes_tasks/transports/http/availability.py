"""Client for the portal's status routes: files online or on tape, quota left, key accepted.

These requests cost no quota (GEODES sections 1.5 and 3.4). A response that cannot be parsed counts
as none. The catalogue's ``Is online`` is known to be wrong, so only these routes and a download
show the real status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.model.asset import GEODES, S3, Asset
from geodes_tasks.model.json import compact
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.http.exchange import Reply
from geodes_tasks.transports.http.http_client import HttpClient

BULK = "/fastavailability"
ONE = "/availability/"
QUOTA = "/processing/download/get"
MOST = 100
"""Number of products that one request may name (GEODES section 1.5)."""
UNLIMITED = 100_000
"""Number of remaining requests from which the account counts as one without a quota."""

_SUFFIX = re.compile(r"\.(zip|tar|gz|tgz|bz2|h5|nc|tiff?|jp2|xml|safe)\Z", re.IGNORECASE)
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}
_REFUSALS = {301, 302, 303, 307, 308, 401, 403}


class RouteMissingError(Exception):
    """The portal has no such route, or not for this account."""

    @property
    def too_many(self) -> bool:
        """Return whether a request for fewer files may succeed."""
        # A 400 does not show whether the portal refused the body or only its length.
        return self.args[1:] == (400,)


class RouteFailedError(Exception):
    """The route fails now and may work later."""


@dataclass(frozen=True, slots=True)
class FileAvailability:
    """Availability of one file."""

    online: bool
    expires: str = ""
    """When the copy from tape expires, as text that sorts by time; empty when unknown."""


@dataclass(frozen=True, slots=True)
class KeyState:
    """Result of the portal's quota route, which costs no quota."""

    status: int
    """HTTP status."""
    accepted: bool | None
    """Whether the portal accepts the key; None when the response is not clear."""
    left: int | None = None
    """Requests left in the window, by the portal."""
    limit: int | None = None
    """Requests in a window, by the portal."""

    @classmethod
    def of(cls, reply: Reply) -> KeyState:
        """Read a reply. GEODES redirects a wrong key without end (GEODES section 3.1)."""
        if reply.status != 200:
            return cls(reply.status, False if reply.status in _REFUSALS else None)
        # An HTML page here is the login page.
        accepted, value = not reply.body.lstrip().startswith(b"<"), reply.json()
        left, limit = (find_number(value, word) for word in ("remainingQuota", "maxQuota"))
        return cls(reply.status, accepted, left, limit)


class Availability:
    """Sends status requests for one account. Safe to use from many threads."""

    def __init__(self, settings: Config) -> None:
        self._portal, self._client = settings.portal_url, HttpClient(settings)

    def bulk(self, assets: Sequence[Asset]) -> list[FileAvailability | None]:
        """Return the availability of up to ``MOST`` files; None for a file not in the response.

        Raises:
            RouteMissingError: the portal does not have this route for this account.
            RouteFailedError: the portal does not respond, or responds with 429 or 5xx.
        """
        products = [
            {"href": asset.hrefs[GEODES], "endpointURL": asset.hrefs.get(S3, "")}
            for asset in assets
        ]
        found = list(files_in(self._fetch(BULK, {"availability": products})))
        return [_availability_of(asset, found) for asset in assets]

    def one(self, asset: Asset) -> FileAvailability | None:
        """Return the availability of one file, by product name. Raises as ``bulk``."""
        value = self._fetch(ONE + quote(product_name(asset.title), safe=""))
        return _availability_of(asset, list(files_in({"products": [value]})))

    def quota_left(self) -> int | None:
        """Return the number of requests left; None without a quota. Raises as ``bulk``."""
        left = find_number(self._fetch(QUOTA), "remainingQuota")
        if left is None:
            raise RouteMissingError(QUOTA)
        return None if left >= UNLIMITED else max(left, 0)

    def key_state(self, seconds: float | None = None) -> KeyState:
        """Return what the portal says of the key.

        Raises:
            GeodesTasksError: as :meth:`HttpClient.fetch`.
        """
        return KeyState.of(self._client.fetch(self._portal + QUOTA, headers=_JSON, seconds=seconds))

    def accepts(self, key_name: str, seconds: float | None = None) -> bool | None:
        """Return whether the portal accepts the key, from a request for the quota.

        None when the response is not clear, or when the key was replaced since it had this name.
        """
        if self._client.key.name() != key_name:
            return None
        try:
            return self.key_state(seconds).accepted
        except GeodesTasksError:
            return None

    def _fetch(self, route: str, question: object = None) -> Any:
        body = None if question is None else compact(question).encode()
        try:
            reply = self._client.fetch(self._portal + route, headers=_JSON, body=body)
        except GeodesTasksError as error:
            raise RouteFailedError(str(error)) from error
        if reply.status == 429 or reply.status >= 500:
            raise RouteFailedError(f"{route}: HTTP {reply.status}")
        value = reply.json() if reply.status == 200 else None
        if value is None:
            # A refused key ends here too: the next download of a file reports it.
            raise RouteMissingError(f"{route}: HTTP {reply.status}", reply.status)
        return value


def product_name(title: str) -> str:
    """Return the name that ``/availability`` expects: no folders, no extensions."""
    name = title.rsplit("/", 1)[-1]
    while (shorter := _SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name


def find_number(value: object, name: str) -> int | None:
    """Return the first whole number of this name at any depth of decoded JSON; None without one."""
    # GEODES does not document the shape of its quota response. Breadth first and without
    # recursion: a response nested deeper than Python's stack must not end the process.
    values = [value]
    for each in values:
        if isinstance(each, dict):
            if isinstance(each.get(name), int):
                return int(each[name])
            values.extend(each.values())
        elif isinstance(each, list):
            values.extend(each)
    return None


def files_in(response: Any) -> Iterator[tuple[str, str, FileAvailability]]:
    """Yield id, checksum and availability of every file; entries of another shape are skipped."""
    products = response.get("products") if isinstance(response, dict) else None
    for product in products if isinstance(products, list) else []:
        files = product.get("files") if isinstance(product, dict) else None
        for file in files if isinstance(files, list) else []:
            if isinstance(file, dict) and isinstance(file.get("available"), bool):
                state = FileAvailability(file["available"], str(file.get("expiration_date") or ""))
                yield str(product.get("id") or ""), str(file.get("checksum") or ""), state


def _availability_of(
    asset: Asset, found: Iterable[tuple[str, str, FileAvailability]]
) -> FileAvailability | None:
    """Return the availability of an asset; None when the response does not name it."""
    # The response names no href, but id and checksum are parts of the href.
    path = unquote(urlsplit(asset.hrefs[GEODES]).path).lower()
    for identifier, checksum, state in found:
        if checksum and path.endswith(checksum.lower()) and identifier.lower() in path:
            return state
    return None
