"""What the portal says of files without giving them: online or on tape, and how much quota is left.

None of these questions costs quota (GEODES sections 1.5 and 3.4). An answer that cannot be read
is no answer: the catalogue's own ``Is online`` is known to be wrong, so only these routes and the
file itself tell.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

from geodes_tasks.errors import AuthError, GeodesTasksError
from geodes_tasks.model.asset import GEODES, S3
from geodes_tasks.transports.abort import Calls
from geodes_tasks.transports.http import find_number
from geodes_tasks.transports.http.addresses import AddressPolicy
from geodes_tasks.transports.http.api_key import ApiKey
from geodes_tasks.transports.http.request import Caller

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from geodes_tasks.model.asset import Asset
    from geodes_tasks.settings.config import Settings

BULK = "/fastavailability"
ONE = "/availability/"
QUOTA = "/processing/download/get"
MOST = 100
"""Products that one question may name (GEODES section 1.5)."""
MAX_BYTES = 4 << 20
UNLIMITED = 100_000
"""So many requests left are no quota."""

_SUFFIX = re.compile(r"\.(zip|tar|gz|tgz|bz2|h5|nc|tiff?|jp2|xml|safe)\Z", re.IGNORECASE)
_JSON = {"Content-Type": "application/json", "Accept": "application/json"}


class RouteMissingError(Exception):
    """The portal has no such route, or not for us."""

    @property
    def too_many(self) -> bool:
        """Whether it may be only that too much was asked for at once."""
        return self.args[1:] == (400,)


class RouteFailedError(Exception):
    """The route does not answer now."""


@dataclass(frozen=True, slots=True)
class Word:
    """What is said of one file."""

    online: bool
    expires: str = ""
    """When the copy from tape goes away again; empty when nothing is said. Sorts by time."""


class Availability:
    """Asks the portal of one account. Not for use by two threads at once."""

    def __init__(self, settings: Settings) -> None:
        self._portal = settings.portal_url
        self._key = ApiKey(settings)
        self._policy = AddressPolicy(settings)
        self._calls = Calls()
        self._caller = Caller(settings, self._policy, self._key, self._calls)

    def bulk(self, assets: Sequence[Asset]) -> list[Word | None]:
        """Ask for up to ``MOST`` files at once; None for those that the answer does not name.

        Raises:
            RouteMissingError: there is no such answer, or not for us.
            RouteFailedError: there is none now.
        """
        products = [
            {"href": asset.hrefs[GEODES], "endpointURL": asset.hrefs.get(S3, "")}
            for asset in assets
        ]
        said = self._ask(BULK, json.dumps({"availability": products}).encode())
        found = list(_files(said))
        return [_word(asset, found) for asset in assets]

    def one(self, asset: Asset) -> Word | None:
        """Ask for one file by the name of its product. Raises as ``bulk``."""
        said = self._ask(ONE + quote(product_name(asset.title), safe=""))
        return _word(asset, list(_files({"products": [said]})))

    def quota_left(self) -> int | None:
        """Ask how many requests are left; None when there is no quota. Raises as ``bulk``."""
        left = find_number.number(self._ask(QUOTA), "remainingQuota")
        if left is None:
            raise RouteMissingError(QUOTA)
        return None if left >= UNLIMITED else max(left, 0)

    def accepts(self, key_name: str) -> bool | None:
        """Ask whether the portal accepts the key, by the question for the quota.

        None when it does not say, or the key is another one than the name says by now.
        """
        if self._key.name() != key_name:
            return None
        try:
            status, body = self._answer(QUOTA)
        except RouteMissingError:
            # Sent in circles, which is how GEODES answers a wrong key.
            return False
        except RouteFailedError:
            return None
        if status == 200:
            # A page is one where to log in.
            return not body.lstrip().startswith(b"<")
        return False if status in {401, 403} else None

    def _ask(self, route: str, question: bytes | None = None) -> Any:
        status, body = self._answer(route, question)
        if status == 429 or status >= 500:
            raise RouteFailedError(f"{route}: HTTP {status}")
        try:
            if status == 200:
                return json.loads(body)
        except (ValueError, RecursionError):
            pass
        # A refused key looks like this too: the next download of a file will say so.
        raise RouteMissingError(f"{route}: HTTP {status}", status)

    def _answer(self, route: str, question: bytes | None = None) -> tuple[int, bytes]:
        try:
            with self._calls.begin() as call:
                exchange = self._caller.ask(self._portal + route, _JSON, call, question)
                with exchange.response as response:
                    return response.status_code, exchange.message(MAX_BYTES)
        except AuthError as error:
            raise RouteMissingError(str(error)) from error
        except GeodesTasksError as error:
            raise RouteFailedError(str(error)) from error


def product_name(title: str) -> str:
    """Give the name that ``/availability`` goes by: a file's, without folders and extensions."""
    name = title.rsplit("/", 1)[-1]
    while (shorter := _SUFFIX.sub("", name)) != name and shorter:
        name = shorter
    return name


def _files(said: Any) -> Iterator[tuple[str, str, Word]]:
    """Give id, checksum and word of every file in an answer; what has another shape is left out."""
    products = said.get("products") if isinstance(said, dict) else None
    for product in products if isinstance(products, list) else []:
        files = product.get("files") if isinstance(product, dict) else None
        for file in files if isinstance(files, list) else []:
            if isinstance(file, dict) and isinstance(file.get("available"), bool):
                word = Word(file["available"], str(file.get("expiration_date") or ""))
                yield str(product.get("id") or ""), str(file.get("checksum") or ""), word


def _word(asset: Asset, found: Iterable[tuple[str, str, Word]]) -> Word | None:
    """Find what is said of a file: id and checksum are parts of its href."""
    path = unquote(urlsplit(asset.hrefs[GEODES]).path).lower()
    for identifier, checksum, word in found:
        if checksum and path.endswith(checksum.lower()) and identifier.lower() in path:
            return word
    return None
