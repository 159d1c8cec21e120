"""Servers of files for figures: nginx where it is installed, else a small one of our own.

The small one can also hold each connection to a rate, as a portal does; run as
``python -m tests.bench.fileserver FOLDER PORT [BYTES_PER_SECOND or CERTIFICATE.pem]``, a process
of its own, so that it shares no interpreter lock with anybody.
"""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import unquote

from tests.bench.harness import ROOT
from tests.servers import HOST, Process, free_port, wait_until

if TYPE_CHECKING:
    from types import TracebackType

MiB = 1 << 20
BURST_S = 0.02
"""How much of a second's bytes may go out at once."""

NGINX = """
daemon off;
{user}
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 100000000;
  keepalive_timeout 3600;
  default_type application/octet-stream;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{ listen {host}:{port}{tls}; root {root}; }}
}}
"""


class FileServer(Process):
    """A folder, over HTTP, by whatever server there is."""

    def __init__(
        self, root: Path, rate: int | None = None, certificate: Path | None = None
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            root: What is served.
            rate: Bytes a second of each connection; None is as fast as can be.
            certificate: Key and certificate in one file, for TLS; None is plain HTTP.
        """
        super().__init__(root.parent / f"{root.name}-server.log")
        self.root, self.rate, self.certificate = root, rate, certificate
        self.port = free_port()
        self.url = f"{'https' if certificate else 'http'}://{HOST}:{self.port}"
        self.kind = "nginx" if rate is None and shutil.which("nginx") else "own"

    @property
    def called(self) -> str:
        """What it is, for the conditions of a bench."""
        kind = "nginx, one process" if self.kind == "nginx" else "a small server with sendfile"
        return kind if self.rate is None else f"{kind}, {self.rate / 1e6:g} MB/s a connection"

    def __enter__(self) -> Self:
        """Start it, and wait until it answers."""
        self.spawn(self._nginx() if self.kind == "nginx" else self._own(), cwd=ROOT)
        wait_until(lambda: self._answers() or not self.alive, 20, "a file server that answers")
        assert self.alive, self.text
        return self

    def _nginx(self) -> list[str]:
        folder = self.root.parent / f"{self.root.name}-nginx"
        folder.mkdir()
        # Started by root it would serve as another user, who may not look into the folder.
        user = "user root;" if os.geteuid() == 0 else ""
        names = ("ssl_certificate", "ssl_certificate_key")
        keys = "".join(f"; {name} {self.certificate}" for name in names)
        text = NGINX.format(
            user=user, folder=folder, root=self.root, host=HOST, port=self.port,
            tls=f" ssl{keys}" if self.certificate else "",
        )  # fmt: skip
        (folder / "nginx.conf").write_text(text)
        return [
            shutil.which("nginx") or "nginx",
            "-p",
            str(folder),
            "-c",
            str(folder / "nginx.conf"),
        ]

    def _own(self) -> list[str]:
        extra = self.rate or self.certificate
        return [
            sys.executable,
            "-m",
            "tests.bench.fileserver",
            str(self.root),
            str(self.port),
            *([str(extra)] if extra else []),
        ]

    def _answers(self) -> bool:
        try:
            socket.create_connection((HOST, self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()


# --- the small one -------------------------------------------------------------------------------


class Bucket:
    """Lets bytes go at a steady rate."""

    def __init__(self, rate: int | None) -> None:
        """Begin with an empty bucket: no connection gets a burst as a present."""
        self.rate, self.due = rate, time.monotonic()
        self.most = MiB if rate is None else max(16384, int(rate * BURST_S))

    def take(self, wanted: int) -> int:
        """Wait for the turn of the next bytes; give how many may go."""
        size = min(wanted, self.most)
        if self.rate is not None:
            self.due = max(self.due + size / self.rate, time.monotonic() - BURST_S)
            time.sleep(max(0.0, self.due - time.monotonic()))
        return size


def serve(root: Path, port: int, rate: int | None, certificate: str | None) -> None:
    """Serve for ever, a thread a connection."""
    listener = socket.create_server((HOST, port), backlog=256)
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    while True:
        link, _ = listener.accept()
        arguments = (link, root, rate, context)
        threading.Thread(target=_converse, args=arguments, daemon=True).start()


def _converse(
    link: socket.socket, root: Path, rate: int | None, context: ssl.SSLContext | None
) -> None:
    """Answer the requests of one connection."""
    if context is not None:
        try:
            link = context.wrap_socket(link, server_side=True)
        except OSError:
            return  # whoever looks whether the port is open says nothing
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    bucket = Bucket(rate)
    with link, link.makefile("rb") as reader:
        while line := reader.readline():
            while reader.readline() not in (b"\r\n", b""):
                pass
            try:
                _answer(link, root / unquote(line.split()[1].decode()).lstrip("/"), bucket)
            except (OSError, IndexError):
                return


def _answer(link: socket.socket, path: Path, bucket: Bucket) -> None:
    if not path.is_file():
        link.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        return
    with path.open("rb") as file:
        size, at = os.fstat(file.fileno()).st_size, 0
        kind = "application/octet-stream"
        link.sendall(
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\n\r\n".encode()
        )
        if isinstance(link, ssl.SSLSocket):
            while piece := file.read(MiB):
                link.sendall(piece)
            return
        while at < size:
            room = bucket.take(size - at)
            while room:
                sent = os.sendfile(link.fileno(), file.fileno(), at, room)
                at, room = at + sent, room - sent


if __name__ == "__main__":
    extra = sys.argv[3] if sys.argv[3:] else None
    is_rate = extra is not None and extra.isdecimal()
    serve(
        Path(sys.argv[1]),
        int(sys.argv[2]),
        int(extra) if extra and is_rate else None,
        None if is_rate else extra,
    )
