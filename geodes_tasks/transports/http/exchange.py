"""A response as it arrives, and a whole reply to a small question."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from urllib3 import BaseHTTPResponse

from geodes_tasks.errors import GeodesTasksError, StalledError
from geodes_tasks.model.json import parsed
from geodes_tasks.transports.abort import Call
from geodes_tasks.transports.body_reader import BodyReader
from geodes_tasks.transports.http.addresses import redact

MAX_MESSAGE_BYTES = 64 * 1024
"""Bytes of an error response that are read, at most."""
MESSAGE_SECONDS = 10.0
"""Seconds after which reading an error response ends: a slow server must not block the worker."""


@dataclass(slots=True)
class Exchange:
    """Response to a request, after its redirects."""

    response: BaseHTTPResponse
    call: Call
    href: str
    """Address of the first request, before any redirect."""
    url: str
    """Address of the last request, as it was sent."""
    redirected: bool
    """True when the response came after a redirect."""

    @property
    def shown(self) -> str:
        """Return the href for messages, without its query."""
        return redact(self.href)

    def reader(self, offset: int = 0) -> BodyReader:
        """Return a reader of the body, which starts at byte ``offset`` of the object."""
        return BodyReader(self.response, self.shown, self.call, offset=offset)

    def message(self) -> bytes:
        """Read the start of an error response; less of it when it breaks or is slow."""
        start = bytearray()
        with suppress(GeodesTasksError):
            self.read_into(start, MAX_MESSAGE_BYTES, MESSAGE_SECONDS)
        return bytes(start)

    def read_into(self, start: bytearray, most: int, seconds: float) -> None:
        """Read the body, at most ``most`` bytes.

        Raises:
            StalledError: the body did not end within ``seconds``.
            GeodesTasksError: as :meth:`BodyReader.read`.
        """
        reader, deadline = self.reader(), time.monotonic() + seconds
        while len(start) < most and (piece := reader.read()):
            start += piece[: most - len(start)]
            if time.monotonic() > deadline:
                raise StalledError(self.shown, f"no complete answer within {seconds:g} s")


@dataclass(frozen=True, slots=True)
class Reply:
    """Whole response to a small question."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Return the decoded JSON of the body; None when it is none."""
        with suppress(ValueError, RecursionError):
            return parsed(self.body)
        return None
