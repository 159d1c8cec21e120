"""The socket end of the stand-in: reads requests, sends answers, breaks them as told."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol

from tests.standin.answers import Answer, Ending, Framing
from tests.standin.bodies import BLOCK, FileBody, KiB
from tests.standin.requestlog import Entry

SMALL = 256 * KiB  # up to here an answer goes out in one send
NO_BODY = {204, 304}


@dataclass(frozen=True)
class Request:
    """One request, as the routes see it."""

    method: str
    """GET, POST, ..."""
    target: str
    """Path and query, as they came."""
    headers: dict[str, str]
    """Headers by lower-case name."""
    body: bytes
    """The request's own body."""
    entry: Entry
    """This request's line in the log, still open."""

    @property
    def key(self) -> str | None:
        """The account's key, when one was sent."""
        return self.headers.get("x-api-key")


class Site(Protocol):
    """What answers requests; a server has one."""

    def answer(self, request: Request) -> Answer:
        """Return the answer to one request."""

    def done(self, request: Request) -> None:
        """Learn that a request is over, however it ended."""


class Server(ThreadingHTTPServer):
    """A threaded server that can be stopped at once, whatever its connections are doing."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 1024

    def __init__(self, host: str, port: int, site: Site, tls: ssl.SSLContext | None) -> None:
        super().__init__((host, port), Connection)
        self.site = site
        self.tls = tls
        self.closing = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    @property
    def port(self) -> int:
        """The port that was bound."""
        return int(self.server_address[1])

    def start(self) -> None:
        """Begin to serve, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening and drop every open connection."""
        self.closing.set()
        with contextlib.suppress(OSError):  # one more connection, which wakes the accept
            socket.create_connection(self.socket.getsockname()[:2], timeout=1).close()
        self._thread.join()
        self.server_close()
        with self._lock:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        """Take connections until told to stop; without polling, so a stop costs no time."""
        while not self.closing.is_set():
            try:
                self.process_request(*self.get_request())
            except OSError:  # out of descriptors, or gone before it was taken: go on
                self.closing.wait(0.01)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember a new connection, so that ``stop`` can drop it."""
        self.adopt(request)
        super().process_request(request, client_address)

    def adopt(self, connection: socket.socket) -> None:
        """Count a socket among those that ``stop`` drops."""
        with self._lock:
            self._open.add(connection)

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet about clients that leave in the middle; anything else is a fault of ours."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class Connection(BaseHTTPRequestHandler):
    """One client connection, and the requests that come over it one after another."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server_version = "geodes-standin"
    sys_version = ""
    server: Server

    def setup(self) -> None:
        """Shake hands here, in the connection's own thread, so that no client holds up others."""
        if self.server.tls is not None:
            self.request = self.server.tls.wrap_socket(self.request, server_side=True)
            self.server.adopt(self.request)
        super().setup()

    def finish(self) -> None:
        """End a TLS connection with its own goodbye, so that clients see a clean close."""
        super().finish()
        if isinstance(self.request, ssl.SSLSocket):
            self.server.shutdown_request(self.request)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the request log is the record."""

    def _serve(self) -> None:
        """Answer one request and write its line in the log."""
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length") or 0))
        entry = Entry(self.command, self.path, dict(self.headers.items()))
        request = Request(self.command, self.path, headers, body, entry)
        try:
            self._send(self.server.site.answer(request), entry)
        except OSError:
            self.close_connection = True  # the client left before the end
        finally:
            self.server.site.done(request)
            entry.finish()

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _serve  # noqa: N815  # names of the base class

    def _send(self, answer: Answer, entry: Entry) -> None:
        """Send an answer, and leave the connection as its ending says."""
        if answer.delay_s:
            self.server.closing.wait(answer.delay_s)
        entry.status = answer.status
        if answer.framing is Framing.CLOSE or answer.ending is not Ending.KEEP:
            self.close_connection = True
        head = self._head(answer)
        bodiless = self.command == "HEAD" or answer.status in NO_BODY
        self._send_body(answer, head, entry, empty=bodiless)
        self._end(answer.ending)

    def _head(self, answer: Answer) -> bytes:
        """Return the status line and headers as bytes."""
        phrase = self.responses.get(answer.status, ("",))[0]
        lines = [f"HTTP/1.1 {answer.status} {phrase}", f"Date: {self.date_time_string()}"]
        lines += [f"{name}: {value}" for name, value in answer.headers]
        lines += [f"{name}: {value}" for name, value in self._framing(answer)]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")

    def _framing(self, answer: Answer) -> Iterator[tuple[str, str]]:
        """Yield the headers that tell where the body ends."""
        if answer.gzip:
            yield "Content-Encoding", "gzip"
        if answer.framing is Framing.CHUNKED:
            yield "Transfer-Encoding", "chunked"
        elif answer.framing is Framing.LENGTH and answer.status not in NO_BODY:
            length = answer.length if answer.declared is None else answer.declared
            yield "Content-Length", str(length)
        if answer.framing is Framing.CLOSE:
            yield "Connection", "close"

    def _send_body(self, answer: Answer, head: bytes, entry: Entry, *, empty: bool) -> None:
        """Send head and body in as few calls as the answer's speed and framing allow."""
        stop = answer.end if answer.cut is None else min(answer.end, answer.start + answer.cut)
        if empty:
            self.connection.sendall(head)
        elif self._plain(answer) and stop - answer.start <= SMALL:
            body = b"".join(answer.content.chunks(answer.start, stop))
            self._push(head + body, entry, len(body), is_all=True)
        elif self._plain(answer) and isinstance(answer.content, FileBody) and not self.server.tls:
            self.connection.sendall(head)
            self._send_file(answer.content, answer.start, stop, entry)
        else:
            self.connection.sendall(head)
            self._stream(answer, stop, entry)

    @staticmethod
    def _plain(answer: Answer) -> bool:
        """Tell whether the body goes out as it is: no chunks, no compression, no speed limit."""
        return answer.framing is not Framing.CHUNKED and not answer.gzip and answer.rate is None

    def _send_file(self, body: FileBody, start: int, stop: int, entry: Entry) -> None:
        """Send a file from the kernel's own pages, a stretch at a time so the log keeps up."""
        with body.path.open("rb") as file:
            while start < stop:
                sent = self.connection.sendfile(file, start, min(16 * BLOCK, stop - start))
                start += sent
                entry.bytes_sent += sent
                if not sent:  # the file has shrunk under us
                    break

    def _stream(self, answer: Answer, stop: int, entry: Entry) -> None:
        """Send a body piece by piece: paced, compressed, in chunks."""
        pieces = answer.content.chunks(answer.start, stop)
        if answer.rate is not None:
            pieces = self._paced(pieces, answer.rate)
        packed = _gzipped(pieces) if answer.gzip else pieces
        for piece in packed:
            if answer.framing is Framing.CHUNKED:
                framed = b"".join((b"%x\r\n" % len(piece), piece, b"\r\n"))
                self._push(framed, entry, len(piece))
            else:
                self._push(piece, entry, len(piece))
        if answer.framing is Framing.CHUNKED and answer.last_chunk:
            self.connection.sendall(b"0\r\n\r\n")

    def _push(
        self, data: bytes | memoryview, entry: Entry, body_bytes: int, *, is_all: bool = False
    ) -> None:
        """Send bytes, noted first: a client that has them may read the log, or go on, at once."""
        entry.bytes_sent += body_bytes
        if is_all:
            entry.finish()
        try:
            self.connection.sendall(data)
        except OSError:
            entry.bytes_sent -= body_bytes
            raise

    def _paced(self, pieces: Iterator[memoryview], rate: float) -> Iterator[memoryview]:
        """Yield pieces no faster than ``rate`` bytes a second, in small slices."""
        step = max(1, min(64 * KiB, int(rate * 0.02)))
        began, sent = time.monotonic(), 0
        for piece in pieces:
            for at in range(0, len(piece), step):
                if self.server.closing.wait(max(0.0, began + sent / rate - time.monotonic())):
                    raise ConnectionAbortedError
                sent += len(piece[at : at + step])
                yield piece[at : at + step]

    def _end(self, ending: Ending) -> None:
        """Leave the connection open, closed, torn down or silent."""
        if ending is Ending.STALL:
            self._wait_for_client()
        elif ending is Ending.RESET:
            self.server.closing.wait(0.02)  # else the reset may overtake the last bytes
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.rfile.close()  # the socket closes only with its last user
            self.connection.close()

    def _wait_for_client(self) -> None:
        """Say nothing until the client closes, or the server stops."""
        self.connection.settimeout(0.05)
        while not self.server.closing.is_set():
            try:
                if not self.connection.recv(1024):
                    return
            except TimeoutError:
                continue


def _gzipped(pieces: Iterator[memoryview]) -> Iterator[memoryview]:
    """Yield the pieces in gzip form."""
    packer = zlib.compressobj(level=1, wbits=31)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield memoryview(packed)
    yield memoryview(packer.flush())
