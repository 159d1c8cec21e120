"""An answer as a value: status, headers, bytes, and how its sending goes wrong, if it does."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from tests.standin.bodies import Body, BytesBody

Header = tuple[str, str]


class Framing(Enum):
    """How a client can tell where the body ends."""

    LENGTH = "length"
    """By ``Content-Length``."""
    CHUNKED = "chunked"
    """By the last chunk of ``Transfer-Encoding: chunked``."""
    CLOSE = "close"
    """By the end of the connection."""


class Ending(Enum):
    """What becomes of the connection after the last byte."""

    KEEP = "keep"
    """It stays open for the next request, where the framing allows."""
    FIN = "fin"
    """It is closed in good order."""
    RESET = "reset"
    """It is torn down with a TCP reset."""
    STALL = "stall"
    """It stays open and silent until the stand-in stops or the client leaves."""


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, and the way it is sent."""

    status: int
    """The status code; 204 and 304 carry no body."""
    content: Body = field(default_factory=lambda: BytesBody(b""))
    """Where the body's bytes come from."""
    headers: tuple[Header, ...] = ()
    """Headers beside those of the framing."""
    start: int = 0
    """First byte of ``content`` to send."""
    stop: int | None = None
    """End of the bytes of ``content`` to send, exclusive; None for its end."""
    framing: Framing = Framing.LENGTH
    """How the end of the body is told."""
    declared: int | None = None
    """``Content-Length`` when it is to differ from the truth."""
    cut: int | None = None
    """Body bytes after which sending ends; None sends all."""
    ending: Ending = Ending.KEEP
    """What becomes of the connection afterwards."""
    last_chunk: bool = True
    """Whether a chunked body gets its last chunk."""
    gzip: bool = False
    """Whether the body is compressed on its way (chunked then)."""
    rate: float | None = None
    """Highest speed in bytes a second; None for as fast as it goes."""
    delay_s: float = 0.0
    """Seconds of silence before the status line."""

    @property
    def end(self) -> int:
        """End of the bytes of ``content`` this answer stands for, exclusive."""
        return self.content.size if self.stop is None else min(self.stop, self.content.size)

    @property
    def length(self) -> int:
        """Number of body bytes this answer stands for, cut or not."""
        return max(0, self.end - self.start)

    def header(self, name: str) -> str | None:
        """Return a header's value, or None."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    def with_headers(self, *added: Header) -> Answer:
        """Return this answer with headers set, each in place of one of the same name."""
        names = {name.lower() for name, _ in added}
        kept = tuple(pair for pair in self.headers if pair[0].lower() not in names)
        return replace(self, headers=kept + added)


def text(status: int, words: str, content_type: str = "text/plain; charset=utf-8") -> Answer:
    """Return an answer of a few words."""
    return Answer(status, BytesBody(words.encode()), (("Content-Type", content_type),))


def html(status: int, title: str) -> Answer:
    """Return a page such as a gateway or a login form shows."""
    page = f"<!DOCTYPE html><html><head><title>{title}</title></head><body>{title}</body></html>"
    return text(status, page, "text/html; charset=utf-8")


def json_answer(status: int, value: Any, content_type: str = "application/json") -> Answer:
    """Return a JSON answer."""
    return text(status, json.dumps(value, separators=(",", ":")), content_type)


def error(status: int, message: str, kind: str = "STAC_ERROR") -> Answer:
    """Return an error in the form of the REGARDS back end."""
    fields = {
        "correlationId": "00000000-0000-0000-0000-000000000000",
        "type": kind,
        "message": message,
        "cause": None,
        "time": "2026-01-01T00:00:00Z",
    }
    return json_answer(status, fields)


def redirect(location: str, status: int = 302) -> Answer:
    """Return a redirect."""
    return Answer(status, headers=(("Location", location),))
