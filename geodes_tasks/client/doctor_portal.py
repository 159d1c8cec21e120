"""Ask the portal and the datalake whether they are there and take the key; spends no quota.

Its own few requests, with the standard library: what is looked at here is the way itself, with
its proxy, its certificate and its clock. The key goes to the portal alone; no redirect is taken.
"""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from geodes_tasks.errors import AuthError, ConfigError, KeyMissingError, UntrustedServerError
from geodes_tasks.settings.account_keys import loose_key_files, named_accounts, of_account
from geodes_tasks.transports.http.availability import find_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.settings.config import Settings

OK, WARNING, PROBLEM = "ok", "warning", "problem"
KEY_PATH = "/processing/download/get"
"""Path that reports the quota of a key and costs none of it."""
LANDING = "/api/stac"
TIMEOUT_S = 10.0
"""Seconds that one request may take."""
SKEW_S = 30.0
"""Seconds between the clocks that are no warning: the Date header has whole seconds (RFC 9110
section 5.6.7), and the response takes a while."""
REFUSALS = {301, 302, 303, 307, 308, 401, 403}


class Line(NamedTuple):
    """One finding: name, level, text, how to mend it."""

    name: str
    level: str
    text: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """The response to one request of a check."""

    status: int
    body: bytes
    skew_s: float | None
    """How far the server's clock is ahead; None when it does not say."""


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect: a portal that redirects to a login page has refused the key."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(settings: Settings, url: str, headers: dict[str, str] | None = None) -> Reply:
    """Send one GET; return the response, whatever its status.

    Raises:
        OSError: no response; ssl.SSLCertVerificationError is behind its ``reason`` at times.
    """
    bundle = str(settings.ca_bundle.expanduser()) if settings.ca_bundle else None
    context = ssl.create_default_context(cafile=bundle)
    handler = urllib.request.HTTPSHandler(context=context)
    opener = urllib.request.build_opener(handler, _Stay)
    # Settings take https, and plain http for loopback only.
    request = urllib.request.Request(url, headers=headers or {})  # noqa: S310
    try:
        with opener.open(request, timeout=TIMEOUT_S) as answer:
            return _reply(answer)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error)


def _reply(answer: Any) -> Reply:
    date, skew = answer.headers.get("Date"), None
    if date:
        try:
            skew = parsedate_to_datetime(date).timestamp() - time.time()
        except ValueError:
            skew = None
    return Reply(answer.status, answer.read(65536), skew)


# --- the portal ----------------------------------------------------------------------------------


def portal_checks(settings: Settings) -> Iterator[Line]:
    """Check the portal: connection, certificate, clock, keys and quota."""
    try:
        reply = ask(settings, settings.portal_url + LANDING)
    except OSError as error:
        yield _no_way("portal", settings.portal_url, error)
        return
    secure = settings.portal_url.startswith("https:")
    how = "its certificate is trusted" if secure else "plain http, loopback"
    if reply.status >= 500:
        mend = "Wait: downloads go on by themselves when it is well again."
        yield Line("portal", WARNING, f"{settings.portal_url} answers {reply.status}", mend)
    else:
        yield Line("portal", OK, f"{settings.portal_url} answers, {how}")
    if reply.skew_s is not None:
        yield portal_clock(reply.skew_s)
    for account in named_accounts(settings):
        yield from _key(of_account(settings, account), named=account != settings.account)
    for file in loose_key_files(settings):
        text = f"{file} holds a key and others may read it"
        yield Line("key file", WARNING, text, f"chmod 600 {file}")


def portal_clock(skew_s: float) -> Line:
    """Return the check of the portal's clock, ``skew_s`` seconds ahead of this machine's."""
    text = f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} this machine"
    if abs(skew_s) <= SKEW_S:
        return Line("clock of portal", OK, text)
    return Line("clock of portal", WARNING, text, "Let this machine take its time from NTP.")


def _no_way(name: str, url: str, error: OSError) -> Line:
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        text = f"{url}: its certificate is not trusted: {reason.verify_message}"
        return Line(name, PROBLEM, text, UntrustedServerError.hint)
    mend = "Look at the network, and at https_proxy if a proxy is needed here."
    return Line(name, PROBLEM, f"{url} does not answer: {reason}", mend)


def _key(settings: Settings, *, named: bool) -> Iterator[Line]:
    for line in _key_checked(settings):
        yield line._replace(name=f"key of account {settings.account}") if named else line


def _key_checked(settings: Settings) -> Iterator[Line]:
    try:
        key, name = settings.key(), settings.key_name()
    except ConfigError as error:
        yield Line("key", PROBLEM, str(error), error.hint)
        return
    if not key:
        yield Line("key", PROBLEM, f"{settings.key_variable} is not set", KeyMissingError.hint)
        return
    if not (key.isascii() and key.isprintable()):
        yield Line("key", PROBLEM, f"{name} holds characters that no key has", AuthError.hint)
        return
    try:
        reply = ask(settings, settings.portal_url + KEY_PATH, {"X-API-Key": key})
    except OSError as error:
        yield _no_way("key", settings.portal_url, error)
        return
    yield _judged(reply, name)


def _judged(reply: Reply, name: str) -> Line:
    """Return the check of a key from the response with its quota."""
    if reply.status in REFUSALS:
        return Line("key", PROBLEM, f"{name} was refused (HTTP {reply.status})", AuthError.hint)
    said = _said(reply.body)
    left, limit = (find_number(said, word) for word in ("remainingQuota", "maxQuota"))
    if reply.status != 200 or left is None:
        text = f"the portal does not tell whether it takes {name} (HTTP {reply.status})"
        return Line("key", WARNING, text, "The first download will tell.")
    text = f"{name} is accepted, {left} of {limit} downloads left in this hour"
    if left == 0:
        return Line("key", WARNING, text, "Wait: downloads go on by themselves.")
    return Line("key", OK, text)


def _said(body: bytes) -> Any:
    """Return a response as JSON; None where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


# --- the datalake --------------------------------------------------------------------------------


def s3_checks(settings: Settings) -> Iterator[Line]:
    """Check the connection to the datalake; without credentials it is not needed."""
    if settings.aws_access_key_id is None:
        yield Line("s3", OK, "no credentials in the settings: files come from the portal")
        return
    try:
        reply = ask(settings, settings.s3_endpoint_url)
    except OSError as error:
        line = _no_way("s3", settings.s3_endpoint_url, error)
        mend = "It is reached from inside CNES only; files come from the portal meanwhile."
        yield line._replace(level=WARNING, mend=mend)
        return
    level = WARNING if reply.status >= 500 else OK
    yield Line("s3", level, f"{settings.s3_endpoint_url} answers (HTTP {reply.status})")
