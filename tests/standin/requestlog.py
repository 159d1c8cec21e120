"""The log of requests, which tests read to see what a client really did."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class RequestRecord:
    """One request as it stood when the log was read."""

    method: str
    """GET, POST, ..."""
    path: str
    """Path and query, as they came."""
    headers: dict[str, str]
    """The request's headers, names as they came."""
    status: int
    """Status of the answer; 0 until it is sent."""
    bytes_sent: int
    """Body bytes handed to the socket; more than the client got when it left early."""
    started_at: float
    """Unix seconds when the request had been read."""
    finished_at: float | None
    """Unix seconds when the answer was out or broken off; None while it goes on."""
    key: str | None
    """The ``X-API-Key`` that came with it."""
    route: str
    """Which route took it: ``download``, ``search``, ...; ``unknown`` for none."""


@dataclass
class Entry:
    """A line of the log while its request is being answered."""

    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    bytes_sent: int = 0
    started_at: float = field(default_factory=time.time)
    finished_at: float | None = None
    route: str = "unknown"

    def finish(self) -> None:
        """Note the time at which the answer ended, the first time that it is called."""
        self.finished_at = self.finished_at or time.time()

    def record(self) -> RequestRecord:
        """Return the line as it stands."""
        key = next((v for n, v in self.headers.items() if n.lower() == "x-api-key"), None)
        return RequestRecord(
            self.method, self.path, dict(self.headers), self.status, self.bytes_sent,
            self.started_at, self.finished_at, key, self.route,
        )  # fmt: skip


class RequestLog:
    """Every request of a server, in the order in which they came."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []
        self._lock = threading.Lock()

    def add(self, entry: Entry) -> None:
        """Add a line for a request that has just been read."""
        with self._lock:
            self._entries.append(entry)

    def clear(self) -> None:
        """Forget every line."""
        with self._lock:
            self._entries = []

    def records(self, first: int = 0) -> list[RequestRecord]:
        """Return the lines from the given number on, requests still in flight included."""
        with self._lock:
            chosen = list(itertools.islice(self._entries, first, None))
        return [entry.record() for entry in chosen]

    def wait_idle(self, timeout_s: float = 5.0) -> bool:
        """Wait until no request is in flight; tell whether that came about in time."""
        deadline = time.monotonic() + timeout_s
        while any(record.finished_at is None for record in self.records()):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.005)
        return True
