"""Answers that stand in the place of a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from email.utils import formatdate

from tests.standin.answers import Answer, error, html, json_answer, redirect, text
from tests.standin.faults import Fault
from tests.standin.modes import BadKey, Mode
from tests.standin.settings import Clock, Config

QUOTA_WORDS = "DownloadQuotaPlugin : Downloading products per hour exceeds quota limit"

# Forms of Retry-After: two the standard knows (RFC 9110 section 10.2.3), and what servers
# really send. Each is made from the seconds that are meant and the time now.
RETRY_AFTER_FORMS: dict[str, Callable[[float, float], str | None]] = {
    "none": lambda _seconds, _now: None,
    "seconds": lambda seconds, _now: f"{seconds:.0f}",
    "date": lambda seconds, now: formatdate(now + seconds, usegmt=True),
    "past_date": lambda _seconds, now: formatdate(now - 3600, usegmt=True),
    "zero": lambda _seconds, _now: "0",
    "huge": lambda _seconds, _now: "99999999999",
    "milliseconds": lambda seconds, _now: f"{seconds * 1000:.0f}",
    "garbage": lambda _seconds, _now: "soon, perhaps",
}


@dataclass(frozen=True)
class Scene:
    """What an answer in place of a file may need to know."""

    url: str
    """The stand-in's own address."""
    other_url: str
    """The other host's address."""
    path: str
    """Path of the file that was asked for."""
    settings: Config
    """The stand-in's switches."""
    clock: Clock
    """The stand-in's time."""


def retry_after(fault: Fault, now: float) -> str | None:
    """Return the header a fault asks for; None for no header."""
    wanted = "none" if fault.retry_after is None else str(fault.retry_after)
    form = RETRY_AFTER_FORMS.get(wanted)
    seconds = 2.0 if fault.seconds is None else fault.seconds
    return form(seconds, now) if form else wanted


def refuse_key(how: BadKey, scene: Scene) -> Answer:
    """Return what a refused key gets."""
    if how is BadKey.UNAUTHORIZED:
        return error(401, "Unauthorized", "UNAUTHORIZED")
    if how is BadKey.FORBIDDEN:
        return error(403, "Access denied: invalid API key", "FORBIDDEN")
    if how is BadKey.LOGIN:
        return redirect(f"{scene.url}/login?next={scene.path}")
    return redirect(f"{scene.url}/login/loop/a")


def over_quota(status: int = 403, words: str | None = None) -> Answer:
    """Return the words of a used-up quota, in each form that was reported."""
    if status == 429:
        return text(429, words or "Download quota of 50 exceeded (by 1) for user standin.")
    return json_answer(status, {"message": words or QUOTA_WORDS})


def throttled(fault: Fault, scene: Scene) -> Answer:
    """Return a 429 with the ``Retry-After`` of the fault."""
    answer = text(429, fault.body or "Download rate of 1 exceeded for user standin.")
    value = retry_after(fault, scene.clock.now())
    return answer if value is None else answer.with_headers(("Retry-After", value))


def _status(fault: Fault, scene: Scene) -> Answer:
    """Return a server error as JSON or as a page."""
    status = fault.status or 503
    if fault.html:
        return html(status, fault.body or "Service unavailable")
    return error(status, fault.body or "Service unavailable", "INTERNAL_SERVER_ERROR")


def _other_host(fault: Fault, scene: Scene) -> Answer:
    """Return a redirect to the other host."""
    return redirect(fault.location or scene.other_url + scene.path, fault.status or 302)


GATES: dict[Mode, Callable[[Fault, Scene], Answer]] = {
    Mode.QUOTA: lambda fault, _scene: over_quota(fault.status or 403, fault.body),
    Mode.THROTTLED: throttled,
    Mode.STATUS: _status,
    Mode.HTML_200: lambda fault, _scene: html(200, fault.body or "GEODES - Sign in"),
    Mode.JSON_200: lambda fault, _scene: json_answer(200, {"message": fault.body or QUOTA_WORDS}),
    Mode.EMPTY_200: lambda _fault, _scene: Answer(
        200, headers=(("Content-Type", "application/zip"),)
    ),
    Mode.NO_CONTENT: lambda _fault, _scene: Answer(204),
    Mode.REDIRECT_OTHER_HOST: _other_host,
    Mode.REDIRECT_LOOP: lambda _fault, scene: refuse_key(BadKey.LOOP, scene),
    Mode.BAD_KEY: lambda fault, scene: refuse_key(fault.answer or scene.settings.bad_key, scene),
    Mode.KEY_REVOKED_MIDWAY: lambda fault, scene: refuse_key(
        fault.answer or BadKey.UNAUTHORIZED, scene
    ),
    Mode.OFFLINE_410: lambda _fault, _scene: error(410, "File is nearline (Tier 3)", "GONE"),
    Mode.OFFLINE_202: lambda _fault, _scene: Answer(202),
    Mode.GONE_404: lambda _fault, _scene: error(404, "Unknown file", "NOT_FOUND"),
    Mode.LICENCE_423: lambda _fault, _scene: json_answer(
        423, {"message": "Licence not accepted", "links": [{"rel": "license", "href": "/licence"}]}
    ),
}
