"""The portal's routes, over the catalogue, the accounts and the faults."""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.standin.accounts import UNLIMITED, Accounts
from tests.standin.answers import Answer, error, html, json_answer, redirect
from tests.standin.catalogue import Catalogue
from tests.standin.downloads import Downloads
from tests.standin.faults import FaultBook
from tests.standin.gates import Scene, refuse_key
from tests.standin.requestlog import RequestLog
from tests.standin.search import BadSearchError, Found, Search, matching
from tests.standin.settings import Clock, Config, Counts
from tests.standin.spec import ServedFile
from tests.standin.wire import Request

Control = Callable[[Request, str], Answer]
Match = re.Match[str]

PROCESSES = {"processes": [{"id": "restoration", "title": "Restoration", "version": "1.0.0"}]}
CONFORMS = [
    "https://api.stacspec.org/v1.0.0-beta.2/core",
    "https://api.stacspec.org/v1.0.0-beta.2/item-search",
]


class Portal:
    """One GEODES: what it knows, and how it answers."""

    def __init__(self, keys: set[str], control: Control) -> None:
        self.url = ""
        self.other_url = ""
        self.settings = Config()
        self.clock = Clock()
        self.accounts = Accounts(self.clock, keys)
        self.catalogue = Catalogue()
        self.faults = FaultBook()
        self.log = RequestLog()
        self._downloads = Downloads(self.accounts, self.faults, self.clock)
        self._search = Search(self.catalogue, self.settings)
        self._control = control
        self._searches: list[float] = []
        self._jobs = 0
        stac, jobs = "/api/stac", r"(?:/api)?/processing/processes"
        file = r"(?P<urn>[^/]+)/files/(?P<md5>[^/]+)"
        routes: list[tuple[str, str, Callable[[Request, Match], Answer]]] = [
            ("download", f"/api/(?:download|v1/rs-catalog/downloads)/{file}", self._download),
            ("quicklook", f"/api/quicklook/{file}", self._quicklook),
            ("search", rf"{stac}/(?:search|items)(?:/paginate)?", self._items),
            ("availability", r"/availability/(?P<name>.+)", self._availability),
            ("fastavailability", "/fastavailability", self._fast_availability),
            ("quota", "/processing/download/get", self._quota),
            ("collections", rf"{stac}/collections(?:/paginate)?", self._collections),
            ("collection", rf"{stac}/collections/(?P<name>[^/]+)", self._collection),
            ("items", rf"{stac}/collections/(?P<name>[^/]+)/items", self._items),
            ("item", rf"{stac}/collections/(?P<name>[^/]+)/items/(?P<urn>[^/]+)", self._item),
            ("conformance", rf"{stac}/conformance", self._conformance),
            ("landing", f"{stac}/?", self._landing),
            ("processes", f"{jobs}/?", self._processes),
            ("execution", rf"{jobs}/(?P<name>[^/]+)/execution", self._execute),
            ("login", r"/login(?P<rest>/loop/[ab])?", self._login),
        ]  # fmt: skip
        self._routes = [(name, re.compile(path), take) for name, path, take in routes]

    def answer(self, request: Request) -> Answer:
        """Return the answer to any request; those under ``/_control`` leave no trace."""
        path = unquote(urlsplit(request.target).path)
        if path.startswith("/_control/"):
            return self._control(request, path.removeprefix("/_control/"))
        self.log.add(request.entry)
        for name, pattern, take in self._routes:
            if found := pattern.fullmatch(path):
                request.entry.route = name
                return take(request, found)
        return error(404, f"No such page: {path}", "NOT_FOUND")

    def done(self, request: Request) -> None:
        """Close a download's account: it is no longer open, and it may count as complete."""
        if request.entry.route != "download":
            return
        self.accounts.leave(request.entry, request.key)
        file = self._file(urlsplit(unquote(request.target)).path)
        whole = file is not None and request.entry.bytes_sent >= file.body.size
        if whole and request.entry.status in (200, 206):
            self.accounts.complete(request.key)

    def _file(self, path: str) -> ServedFile | None:
        """Return the file a download path leads to, or None."""
        parts = path.rsplit("/", 3)
        return self.catalogue.file(parts[1], parts[3]) if len(parts) == 4 else None

    def scene(self, path: str) -> Scene:
        """Return what answers in place of a file may need to know."""
        return Scene(self.url, self.other_url, path, self.settings, self.clock)

    def _download(self, request: Request, found: Match) -> Answer:
        """Answer a GET or HEAD on a file."""
        file = self.catalogue.file(found["urn"], found["md5"])
        scene = self.scene(found.string)
        if request.method not in ("GET", "HEAD"):
            return error(405, "Method not allowed", "METHOD_NOT_ALLOWED")
        if file is None or request.method == "HEAD":
            refused = self._downloads.refusal(request, set(), scene)
            return refused or (Answer(200) if file else error(404, "Unknown file", "NOT_FOUND"))
        return self._downloads.answer(request, file, scene)

    def _quicklook(self, request: Request, found: Match) -> Answer:
        """Answer with a preview; the address needs its ``scope`` unless a key comes along."""
        file = self.catalogue.file(found["urn"], found["md5"])
        scoped = "scope" in parse_qs(urlsplit(request.target).query) or request.key
        if self.settings.quicklook_scope_needed and not scoped:
            return error(403, "Forbidden", "FORBIDDEN")
        if file is None:
            return error(404, "Unknown file", "NOT_FOUND")
        return Answer(200, file.body, file.headers)

    def _landing(self, request: Request, found: Match) -> Answer:
        """Answer with the landing page of the catalogue."""
        links = [
            {"rel": "self", "href": f"{self.url}/api/stac", "type": "application/json"},
            {"rel": "data", "href": f"{self.url}/api/stac/collections", "type": "application/json"},
            {"rel": "search", "href": f"{self.url}/api/stac/search", "method": "POST"},
        ]
        return json_answer(200, {
            "type": "Catalog", "stac_version": "1.0.0-beta.2", "id": "gdh", "title": "GEODES",
            "description": "GEODES", "conformsTo": CONFORMS, "links": links,
        })  # fmt: skip

    def _conformance(self, request: Request, found: Match) -> Answer:
        """Answer with what the catalogue conforms to."""
        return json_answer(200, {"conformsTo": CONFORMS})

    def _collections(self, request: Request, found: Match) -> Answer:
        """Answer with every collection, or those that a query finds."""
        try:
            query = search_body(request).get("query") or {}
            collections = matching(self.catalogue.collections(self.url), query)
        except (BadSearchError, ValueError, TypeError, AttributeError) as err:
            return error(400, f"Bad search: {err}", "BAD_REQUEST")
        count = len(collections)
        context = {"returned": count, "limit": count, "matched": count}
        return json_answer(200, {"collections": collections, "context": context, "links": []})

    def _collection(self, request: Request, found: Match) -> Answer:
        """Answer with one collection."""
        for collection in self.catalogue.collections(self.url):
            if collection["id"] == found["name"]:
                return json_answer(200, collection)
        return error(404, f"Unknown collection {found['name']}", "NOT_FOUND")

    def _item(self, request: Request, found: Match) -> Answer:
        """Answer with one item."""
        item = self.catalogue.item(found["urn"])
        if item is None or item["collection"] != found["name"]:
            return error(404, f"Unknown item {found['urn']}", "NOT_FOUND")
        return json_answer(200, item, "application/geo+json")

    def _items(self, request: Request, found: Match) -> Answer:
        """Answer a search, or say what is wrong with it."""
        try:
            body = search_body(request)
            if name := found.groupdict().get("name"):
                body["collections"] = [name]
            refused = self._search_trouble(int(body.get("page") or 1))
            answer = refused or self._found(request, self._search.page(body))
        except (BadSearchError, ValueError, TypeError, KeyError, AttributeError) as err:
            answer = error(400, f"Bad search: {err}", "BAD_REQUEST")
        return replace(answer, delay_s=self.settings.search_latency_s)

    def _search_trouble(self, page: int) -> Answer | None:
        """Return a 429 or the one 500 that the settings ask for, or None."""
        now, settings = time.monotonic(), self.settings
        self._searches = [at for at in self._searches if now - at < 1.0] + [now]
        if settings.search_rate is not None and len(self._searches) > settings.search_rate:
            return error(429, "Too many requests", "TOO_MANY_REQUESTS")
        if settings.failing_page == page:
            settings.failing_page = None
            return error(500, "Search failed", "SEARCH_ERROR")
        return None

    def _found(self, request: Request, found: Found) -> Answer:
        """Return a page of a search in the portal's shape."""
        base = f"{self.url}{urlsplit(request.target).path}?limit={found.limit}&page="
        if request.method == "POST":
            # A link is a GET: it carries the body of the search.
            body = base64.urlsafe_b64encode(request.body or b"{}").decode()
            base = f"{self.url}/api/stac/search/paginate?itemBody={body}&page="
        links = [{"rel": "self", "href": f"{base}{found.page}", "type": "application/json"}]
        if found.page * found.limit < found.matched:
            following = f"{base}{found.page + 1}"
            links.append({"rel": "next", "href": following, "type": "application/json"})
        answer: dict[str, Any] = {
            "type": "FeatureCollection", "stac_version": "1.0.0-beta.1", "stac_extensions": [],
            "features": found.features, "links": links,
        }  # fmt: skip
        returned = len(found.features)
        if self.settings.counts in (Counts.CONTEXT, Counts.BOTH):
            context = {"returned": returned, "limit": found.limit, "matched": found.matched}
            answer["context"] = context
        if self.settings.counts in (Counts.NUMBERS, Counts.BOTH):
            answer |= {"numberMatched": found.matched, "numberReturned": returned}
        return json_answer(200, answer, "application/geo+json")

    def _status(self, file: ServedFile) -> dict[str, Any]:
        """Return whether a file is online, in the words of the availability routes."""
        online, until = self._downloads.availability(file)
        online |= self.settings.always_available
        status: dict[str, Any] = {"checksum": file.md5, "available": online}
        if until is not None:
            stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(until))
            status["expiration_date"] = stamp
        return status

    def _availability(self, request: Request, found: Match) -> Answer:
        """Answer where the files of one product are, by its name."""
        if self.settings.availability_status:
            return error(self.settings.availability_status, "No such route", "NOT_FOUND")
        if not self.accounts.knows(request.key):
            how = self.settings.bad_key if request.key else self.settings.missing_key
            return refuse_key(how, self.scene(found.string))
        files = self.catalogue.files(found["name"])
        if not files:
            return error(404, f"Unknown product {found['name']}", "NOT_FOUND")
        return json_answer(200, {"id": files[0].urn, "files": [self._status(f) for f in files]})

    def _fast_availability(self, request: Request, found: Match) -> Answer:
        """Answer where the files of many products are; unknown ones are left out."""
        if self.settings.bulk_status:
            return error(self.settings.bulk_status, "No such route", "NOT_FOUND")
        try:
            hrefs = [str(one["href"]) for one in json.loads(request.body)["availability"]]
        except (ValueError, TypeError, KeyError):
            return error(400, "Bad availability request", "BAD_REQUEST")
        if len(hrefs) > self.settings.availability_cap:
            return error(400, f"At most {self.settings.availability_cap} products", "BAD_REQUEST")
        products = []
        for href in hrefs:
            if file := self._file(unquote(urlsplit(href).path)):
                products.append({"id": file.urn, "files": [self._status(file)]})
        return json_answer(200, {"products": products})

    def _quota(self, request: Request, found: Match) -> Answer:
        """Answer how much of its quota a key has left; asking costs nothing."""
        if self.settings.quota_status:
            return error(self.settings.quota_status, "No such route", "NOT_FOUND")
        scene = self.scene(found.string)
        if not self.accounts.knows(request.key):
            how = self.settings.bad_key if request.key else self.settings.missing_key
            return refuse_key(how, scene)
        if refused := self._downloads.key_refusal(request, scene):
            return refused
        quota = self.accounts.quota
        limit = quota.limit if quota else UNLIMITED
        remaining = self.settings.quota_says
        if remaining is None:
            remaining = self.accounts.remaining(request.key)
        return json_answer(200, {"maxQuota": limit, "remainingQuota": remaining})

    def _processes(self, request: Request, found: Match) -> Answer:
        """Answer with the processes on offer."""
        return json_answer(200, PROCESSES)

    def _execute(self, request: Request, found: Match) -> Answer:
        """Accept a process; one with ``restoration`` brings the product back from tape."""
        try:
            inputs = json.loads(request.body or b"{}").get("inputs", {})
        except (ValueError, AttributeError):
            return error(400, "Bad inputs", "BAD_REQUEST")
        self._jobs += 1
        if inputs.get("restoration"):
            self.bring_online(str(inputs.get("product-title")))
        job = {"jobID": f"job-{self._jobs}", "processID": found["name"], "status": "accepted"}
        return json_answer(201, job)

    def bring_online(self, name: str | None) -> None:
        """Bring the files of a name back from tape, however the fault names them; None: all."""
        names = None
        if name is not None:
            names = {name}.union(*(file.names for file in self.catalogue.files(name)))
        self.faults.bring_online(names, self.clock.now())

    def _login(self, request: Request, found: Match) -> Answer:
        """Answer with a login page, or send the client round once more."""
        if found["rest"] is None:
            return html(200, "GEODES - Sign in")
        return redirect(f"{self.url}/login/loop/{'b' if found['rest'][-1] == 'a' else 'a'}")


def search_body(request: Request) -> dict[str, Any]:
    """Return a search's parameters, from a JSON body or from the query of a GET."""
    if request.method == "POST":
        body = json.loads(request.body or b"{}")
        if not isinstance(body, dict):
            raise BadSearchError("the body is not an object")
        return body
    plain = {n: v[0] for n, v in parse_qs(urlsplit(request.target).query).items()}
    if "itemBody" in plain:
        whole: dict[str, Any] = json.loads(base64.urlsafe_b64decode(plain["itemBody"]))
        return whole | {"page": plain.get("page", 1)}
    body = {n: v for n, v in plain.items() if n in ("page", "limit", "datetime")}
    if "bbox" in plain:
        body["bbox"] = [float(edge) for edge in plain["bbox"].split(",")]
    body |= {n: plain[n].split(",") for n in ("ids", "collections") if n in plain}
    if "query" in plain:
        body["query"] = json.loads(plain["query"])
    return body
