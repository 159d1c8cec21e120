"""Additions to Flower's server: the page ``/batches``, and 403 for pages of other sites."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from flower.options import options
from flower.views import BaseHandler
from tornado.httputil import HTTPHeaders
from tornado.ioloop import IOLoop
from tornado.web import OutputTransform, authenticated

from geodes_tasks.errors import GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.monitoring.html import picture
from geodes_tasks.monitoring.snapshot import Snapshot, SnapshotReader
from geodes_tasks.settings import config
from geodes_tasks.settings.urls import is_loopback

MOST, ROWS = 50, 200
"""Batches on the page, the newest; rows of each section."""
REFRESH_S = 2
"""Seconds between two readings of the page."""
PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Batches</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<style>body {{ font: 15px/1.4 system-ui, sans-serif; margin: 1em auto; max-width: 1400px;
padding: 0 1em }}
a {{ color: #2a7ab9 }} code {{ user-select: all }}</style></head>
<body><p><a href="{prefix}/workers">Workers</a> <a href="{prefix}/tasks">Tasks</a>
<a href="{prefix}/batches?format=json">JSON</a></p><p role="status"></p><main>{body}</main>
<script>setInterval(async () => {{
  // The whole address without user and password, which fetch refuses.
  const address = location.origin + location.pathname + "?format=part";
  const answer = await fetch(address).catch(() => null);
  const text = answer && answer.ok ? await answer.text() : "";
  document.querySelector("p[role]").textContent = text ? "" : "{old}";
  if (text) document.querySelector("main").innerHTML = text;
}}, {refresh_ms});</script></body></html>"""
OLD = "Flower or Redis does not answer; what you see is old; trying again"


class BatchesHandler(BaseHandler):  # type: ignore[misc] # flower has no types
    """Answer with all batches: ``?format=json`` with the objects of ``batches --json``."""

    @authenticated
    async def get(self) -> None:
        """Read the ledger in a thread, for the loop also serves Flower's own pages."""
        options = self.application.options
        prefix = f"/{options.url_prefix.strip('/')}" if options.url_prefix else ""
        form = self.get_argument("format", "html")
        try:
            snapshot = await IOLoop.current().run_in_executor(None, read_batches, form != "json")
        except GeodesTasksError as error:
            self.set_status(503)
            self.finish(f"<p>{escape(str(error))} {escape(error.hint)}</p>")
            return
        if form == "json":
            self.set_header("Content-Type", "application/json")
            self.finish(json.dumps(snapshot.status_objects()))
            return
        body = picture(snapshot, f"{prefix}/task/", ROWS)
        if form != "part":
            body = PAGE.format(prefix=prefix, body=body, old=OLD, refresh_ms=1000 * REFRESH_S)
        self.finish(body)


def read_batches(is_page: bool) -> Snapshot:
    """Return the snapshot of all batches, or of those that a page has room for."""
    ledger = Ledger.of(config.load())
    names = ledger.reading.batches()
    return SnapshotReader(ledger, names[:MOST] if is_page else names).read()


def add_page(handlers: list[Any]) -> None:
    """Add the page to the table of Flower's handlers, in front of its page for no page."""
    if not any(handler[1] is BatchesHandler for handler in handlers if isinstance(handler, tuple)):
        handlers.insert(0, (r"/batches", BatchesHandler))


class OwnSiteOnly(OutputTransform):
    """Refuse web pages of other sites (403) where Flower has no password, and their frames.

    A page that is open in the user's browser reaches loopback, too: with Flower's own
    ``Access-Control-Allow-Origin: *``, or by a name of its own that resolves to 127.0.0.1. One
    such transform sees every response, whatever handler made it and under any URL prefix. Without
    a password Flower is read-only, so that a request alone changes nothing.
    """

    def __init__(self, request: Any) -> None:
        """Check the headers of a request."""
        self.is_own = is_own_page(request)

    def transform_first_chunk(
        self,
        status_code: int,
        headers: Any,
        chunk: bytes,
        finishing: bool,  # noqa: ARG002 - tornado's signature
    ) -> tuple[int, Any, bytes]:
        """Return status, headers and first bytes of the response."""
        if self.is_own:
            # A page of another site would have its reader click Flower's buttons in a frame.
            headers["X-Frame-Options"] = "SAMEORIGIN"
            return status_code, headers, chunk
        return 403, HTTPHeaders({"Content-Length": "0"}), b""

    def transform_chunk(self, chunk: bytes, finishing: bool) -> bytes:  # noqa: ARG002
        """Return further bytes."""
        return chunk if self.is_own else b""


def is_own_page(request: Any) -> bool:
    """Return whether a request comes from Flower's own pages or a program, not from another site.

    Source: Fetch standard, section 3.2: the header Origin is in each request that a page of
    another site may read the answer of.
    """
    if options.basic_auth or options.auth or options.unix_socket:
        return True
    origin = request.headers.get("Origin")
    is_same = origin is None or origin.partition("://")[2] == request.host
    host = request.host_name.strip("[]")
    return is_same and (is_loopback(host) or host == options.address)
