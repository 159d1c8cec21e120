"""The control routes: what the Python methods offer, for a process outside.

POST   /_control/items      fields of ItemSpec; several at once as a list; answers the item(s)
GET    /_control/items      every item
POST   /_control/files      {"path": ..., and fields of ItemSpec}
POST   /_control/variants   add one item of every kind; answers {name: item}
POST   /_control/faults     {"target": null | name, "mode": ..., and fields of Fault}
DELETE /_control/faults     lift all faults
POST   /_control/online     {"target": null | name}
POST   /_control/quota      {"limit": 5, ...} as in Quota, or null
POST   /_control/keys       ["key", ...]; an empty list lets everyone in
POST   /_control/settings   {"rate": 100000, ...} as in Config
POST   /_control/clock      {"advance": seconds}
GET    /_control/log        every request; ?route=download filters
GET    /_control/other-log  every request at the other host
DELETE /_control/log        forget both
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

from tests.standin.accounts import Quota
from tests.standin.answers import Answer, error, json_answer
from tests.standin.requestlog import RequestRecord
from tests.standin.variants import variants
from tests.standin.wire import Request

if TYPE_CHECKING:
    from tests.standin.standin import StandIn


class Controls:
    """Carries out what comes in under ``/_control``."""

    def __init__(self, standin: StandIn) -> None:
        self._standin = standin
        self._orders: dict[tuple[str, str], Callable[[Any], Any]] = {
            ("POST", "items"): self._add_items,
            ("GET", "items"): lambda _: self._standin.items,
            ("POST", "files"): lambda order: self._standin.add_file(**order),
            ("POST", "variants"): lambda order: variants(self._standin, **(order or {})),
            ("POST", "faults"): self._fault,
            ("DELETE", "faults"): lambda _: self._standin.clear_faults(),
            ("POST", "online"): lambda order: self._standin.bring_online(**(order or {})),
            ("POST", "quota"): self._quota,
            ("POST", "keys"): lambda keys: self._standin.set_key(*keys),
            ("POST", "settings"): lambda order: self._standin.settings.change(**order),
            ("POST", "clock"): lambda order: self._standin.advance(float(order["advance"])),
            ("DELETE", "log"): lambda _: self._standin.reset_log(),
        }

    def answer(self, request: Request, path: str) -> Answer:
        """Carry out one order; answer its result as JSON, or 400 with what is wrong."""
        if request.method == "GET" and path in ("log", "other-log"):
            return json_answer(200, self._log(request, path))
        order = self._orders.get((request.method, path))
        if order is None:
            return error(404, f"No such control: {request.method} {path}", "NOT_FOUND")
        try:
            return json_answer(200, order(json.loads(request.body or b"null")))
        except (ValueError, TypeError, KeyError, AttributeError, OSError) as err:
            return error(400, f"{type(err).__name__}: {err}", "BAD_REQUEST")

    def _add_items(self, order: Any) -> Any:
        """Add one item, or each of a list."""
        if isinstance(order, list):
            return [self._standin.add_item(**one) for one in order]
        return self._standin.add_item(**(order or {}))

    def _fault(self, order: dict[str, Any]) -> Any:
        """Set a fault."""
        return asdict(self._standin.fault(order.pop("target", None), order.pop("mode"), **order))

    def _quota(self, order: dict[str, Any] | None) -> None:
        """Set or lift the quota."""
        self._standin.quota = None if order is None else Quota(**order)

    def _log(self, request: Request, path: str) -> list[dict[str, Any]]:
        """Return the log of the portal or of the other host, of one route if asked."""
        route = parse_qs(urlsplit(request.target).query).get("route")
        records: list[RequestRecord] = self._standin.requests
        if path == "other-log":
            records = self._standin.other_host.requests
        return [asdict(one) for one in records if route is None or one.route in route]
