"""An S3 server on a real socket: moto's, behind a front that can go wrong on purpose."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import boto3
from moto.server import ThreadedMotoServer

from tests.standin.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BUCKET = "sentinel2-l1c"
PIECE = 64 * 1024


@dataclass
class Fault:
    """What goes wrong with GETs; the fields that are set."""

    status: int | None = None
    """Status in place of the object."""
    code: str = ""
    """S3 error code that goes with it."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers that go with it."""
    cut: int | None = None
    """Body bytes after which the connection is closed."""
    stall: int | None = None
    """Body bytes after which nothing more comes."""
    ignore_range: bool = False
    """Whether ``Range`` and ``If-Match`` are not passed on."""
    whole_status: bool = False
    """Whether a range comes with the status of the whole, as from rclone's server."""
    silent: bool = False
    """Whether there is no answer at all."""
    latency_s: float = 0.0
    """Seconds before an answer begins."""
    stop_after: int | None = None
    """Body bytes, of all GETs together, after which the server is gone."""
    end_after: int | None = None
    """Body bytes, of all GETs together, after which the present session token has ended."""
    change_after: int | None = None
    """Body bytes, of all GETs together, after which the object is another one."""
    change_to: bytes = b""
    """That one."""


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _FrontServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Pass a GET on to moto, unless something is to go wrong."""
        fault, headers, began = self.server.fault, dict(self.headers.items()), time.time()
        self.server.seen.append(headers)
        self.server.closing.wait(fault.latency_s)
        # Not at the end of the body: a client may begin another before this thread runs again.
        self.server.spans.append((began, time.time()))
        if fault.silent:
            self.server.closing.wait(30)
            return
        if self._has_ended(fault, headers.get("X-Amz-Security-Token", "")):
            fault = Fault(status=400, code="ExpiredToken")
        if fault.change_after is not None and self.server.sent >= fault.change_after:
            self.server.change(self.path, fault)
        if fault.status is not None:
            text = (
                f"<Error><Code>{fault.code}</Code><Message>it&apos;s\nno</Message></Error>".encode()
            )
            self._head(fault.status, fault.headers | {"Content-Length": str(len(text))})
            self.wfile.write(text)
            return
        if fault.ignore_range:
            headers = {n: v for n, v in headers.items() if n.lower() not in {"range", "if-match"}}
        self._pass_on(headers, fault)

    def _has_ended(self, fault: Fault, token: str) -> bool:
        """Tell whether this token is one of those that end."""
        if fault.end_after is not None and self.server.sent >= fault.end_after:
            fault.end_after = None
            self.server.ended.add(self.server.last_token or token)
        self.server.last_token = token
        return token in self.server.ended

    def _pass_on(self, headers: dict[str, str], fault: Fault) -> None:
        # moto may stop in the middle: http.client leaves the socket open when sending fails.
        with contextlib.closing(HTTPConnection("127.0.0.1", self.server.moto_port)) as upstream:
            upstream.request("GET", self.path, headers=headers)
            answer = upstream.getresponse()
            body = answer.read()
        kept = {n: v for n, v in answer.getheaders() if n.lower() not in {"connection", "server"}}
        self._head(200 if fault.whole_status else answer.status, kept)
        stop = fault.cut if fault.stall is None else fault.stall
        body = body[:stop]
        for at in range(0, len(body), PIECE):
            if fault.stop_after is not None and self.server.sent >= fault.stop_after:
                self.server.go_away()
                return
            self.wfile.write(body[at : at + PIECE])
            with self.server.lock:
                self.server.sent += len(body[at : at + PIECE])
        if fault.stall is not None:
            self.server.closing.wait(30)
        self.close_connection = stop is not None

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _FrontServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, moto_port: int) -> None:
        super().__init__(("127.0.0.1", 0), _Front)
        self.moto_port = moto_port
        self.fault = Fault()
        self.seen: list[dict[str, str]] = []
        self.spans: list[tuple[float, float]] = []
        self.sent = 0
        self.lock = threading.Lock()
        self.ended: set[str] = set()
        self.last_token = ""
        self.closing = threading.Event()
        self.connections: list[socket.socket] = []
        self.put: Callable[[str, bytes], None]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Keep the connection, to be able to break it."""
        self.connections.append(request)
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that leave."""

    def go_away(self) -> None:
        """End as a server that was stopped: connections broken, none taken."""
        self.shutdown()
        self.server_close()
        self.hang_up()

    def hang_up(self) -> None:
        """Break all connections."""
        for connection in self.connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def change(self, path: str, fault: Fault) -> None:
        """Replace an object, once."""
        fault.change_after = None
        self.put(unquote(path.split("/", 2)[2].partition("?")[0]), fault.change_to)


class S3Server:
    """One bucket on a real socket."""

    def __init__(self, certificate: Path | None = None) -> None:
        """Prepare; nothing runs yet.

        Args:
            certificate: With its key: then the front speaks TLS.
        """
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._certificate = certificate

    def __enter__(self) -> Self:
        """Start moto and the front."""
        self._moto.start()
        port = self._moto.get_host_and_port()[1]
        self._front = _FrontServer(port)
        scheme = "http"
        if self._certificate is not None:
            scheme, context = "https", server_context(self._certificate)
            self._front.socket = context.wrap_socket(self._front.socket, server_side=True)
        threading.Thread(target=self._front.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"{scheme}://127.0.0.1:{self._front.server_address[1]}"
        self._admin = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="admin",
            aws_secret_access_key="admin",
            region_name="us-east-1",
        )
        self._admin.create_bucket(Bucket=BUCKET)
        self._front.put = self.put
        return self

    def __exit__(self, *_: object) -> None:
        """Stop both."""
        self._front.closing.set()
        self._front.shutdown()
        self._front.server_close()
        self._admin.close()
        self._moto.stop()

    def put(self, key: str, body: bytes) -> None:
        """Store an object."""
        self._admin.put_object(Bucket=BUCKET, Key=key, Body=body)

    def go_wrong(self, **fault: Any) -> None:
        """Make GETs go wrong from now on; without arguments, go right again."""
        self._front.fault = Fault(**fault)

    def hang_up(self) -> None:
        """Break the connections that clients keep, as a server does with idle ones."""
        self._front.hang_up()

    def counted(self, expected_bytes: int) -> int:
        """Give the body bytes that were sent, once so many are counted, or after a while.

        A piece is counted when it is out: whoever reads the last one may be there before.
        """
        deadline = time.monotonic() + 5
        while self.sent_bytes < expected_bytes and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.sent_bytes

    @property
    def sent_bytes(self) -> int:
        """Body bytes that were sent so far."""
        return self._front.sent

    @property
    def spans(self) -> list[tuple[float, float]]:
        """When each GET came, and when its answer began."""
        return self._front.spans

    @property
    def seen(self) -> list[dict[str, str]]:
        """Headers of the GETs so far."""
        return self._front.seen
