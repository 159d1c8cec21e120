"""Client for the portal's status routes: files online or on tape, quota left, key accepted.

These requests cost no quota (GEODES sections 1.5 and 3.4). A response that cannot be parsed counts
as none. The catalogue's ``Is online`` is known to be wrong, so only these routes and a download
show the real status.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from geodes_tasks.errors import AuthError, GeodesTasksError
from geodes_tasks.model.asset import GEODES, S3, Asset
from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.http.addresses import AddressPolicy
from geodes_tasks.transports.http.api_key import ApiKey
from geodes_tasks.transports.http.request import Caller

BULK = "/fastavailability"
ONE = "/availability/"
QUOTA = "/processing/download/get"
MOST = 100
"""Number of products that one request may name (GEODES section 1.5)."""
MAX_BYTES = 4 << 20
"""Bytes of a response that are read, at most."""
UNLIMITED = 100_000
"""Number of remaining requests from which the account counts as one without a quota."""

_SUFFIX = re.compile(r"\.(zip|tar|gz|tgz|bz2|h5|nc|tiff?|jp2|xml|safe)\Z", re.IGNORECASE)
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


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


class Availability:
    """Sends status requests for one account. Not safe for two threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._portal = settings.portal_url
        self._key = ApiKey(settings)
        self._policy = AddressPolicy(settings)
        self._calls = Calls()
        self._caller = Caller(settings, self._policy, self._key, self._calls)

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
        value = self._fetch(BULK, json.dumps({"availability": products}).encode())
        found = list(_files(value))
        return [_availability_of(asset, found) for asset in assets]

    def one(self, asset: Asset) -> FileAvailability | None:
        """Return the availability of one file, by product name. Raises as ``bulk``."""
        value = self._fetch(ONE + quote(product_name(asset.title), safe=""))
        return _availability_of(asset, list(_files({"products": [value]})))

    def quota_left(self) -> int | None:
        """Return the number of requests left; None without a quota. Raises as ``bulk``."""
        left = find_number(self._fetch(QUOTA), "remainingQuota")
        if left is None:
            raise RouteMissingError(QUOTA)
        return None if left >= UNLIMITED else max(left, 0)

    def accepts(self, key_name: str) -> bool | None:
        """Return whether the portal accepts the key, from a request for the quota.

        None when the response is not clear, or when the key was replaced since it had this name.
        """
        if self._key.name() != key_name:
            return None
        try:
            status, body = self._answer(QUOTA)
        except RouteMissingError:
            # GEODES answers a wrong key with redirects without end (GEODES section 3.1).
            return False
        except RouteFailedError:
            return None
        if status == 200:
            # An HTML page here is the login page.
            return not body.lstrip().startswith(b"<")
        return False if status in {401, 403} else None

    def _fetch(self, route: str, request_body: bytes | None = None) -> Any:
        status, body = self._answer(route, request_body)
        if status == 429 or status >= 500:
            raise RouteFailedError(f"{route}: HTTP {status}")
        try:
            if status == 200:
                return json.loads(body)
        except (ValueError, RecursionError):
            pass
        # A refused key ends here too: the next download of a file reports it.
        raise RouteMissingError(f"{route}: HTTP {status}", status)

    def _answer(self, route: str, request_body: bytes | None = None) -> tuple[int, bytes]:
        try:
            with self._calls.begin() as call:
                exchange = self._caller.request(self._portal + route, _JSON, call, request_body)
                with exchange.response as response:
                    return response.status_code, exchange.message(MAX_BYTES)
        except AuthError as error:
            raise RouteMissingError(str(error)) from error
        except GeodesTasksError as error:
            raise RouteFailedError(str(error)) from error


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


def _files(response: Any) -> Iterator[tuple[str, str, FileAvailability]]:
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
