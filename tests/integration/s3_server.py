"""An S3 server on a real socket: moto's, behind a front that can go wrong on purpose."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import boto3
from moto.server import ThreadedMotoServer

BUCKET = "sentinel2-l1c"


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


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _FrontServer

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""

    def do_GET(self) -> None:
        """Pass a GET on to moto, unless something is to go wrong."""
        fault, headers = self.server.fault, dict(self.headers.items())
        self.server.seen.append(headers)
        if fault.status is not None:
            text = f"<Error><Code>{fault.code}</Code><Message>no</Message></Error>".encode()
            self._head(fault.status, fault.headers | {"Content-Length": str(len(text))})
            self.wfile.write(text)
            return
        if fault.ignore_range:
            headers = {n: v for n, v in headers.items() if n.lower() not in {"range", "if-match"}}
        self._pass_on(headers, fault)

    def _pass_on(self, headers: dict[str, str], fault: Fault) -> None:
        upstream = HTTPConnection("127.0.0.1", self.server.moto_port)
        upstream.request("GET", self.path, headers=headers)
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        kept = {n: v for n, v in answer.getheaders() if n.lower() not in {"connection", "server"}}
        self._head(answer.status, kept)
        stop = fault.cut if fault.stall is None else fault.stall
        self.wfile.write(body[:stop])
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
        self.closing = threading.Event()


class S3Server:
    """One bucket on a real socket."""

    def __init__(self) -> None:
        self._moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def __enter__(self) -> Self:
        """Start moto and the front."""
        self._moto.start()
        port = self._moto.get_host_and_port()[1]
        self._front = _FrontServer(port)
        threading.Thread(target=self._front.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._front.server_address[1]}"
        self._admin = boto3.client(
            "s3",
            endpoint_url=f"http://127.0.0.1:{port}",
            aws_access_key_id="admin",
            aws_secret_access_key="admin",
            region_name="us-east-1",
        )
        self._admin.create_bucket(Bucket=BUCKET)
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

    @property
    def seen(self) -> list[dict[str, str]]:
        """Headers of the GETs so far."""
        return self._front.seen
