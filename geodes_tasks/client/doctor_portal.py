"""Check the portal and the datalake with the client and the credentials that downloads use.

No quota is spent, and the key goes to the portal alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from geodes_tasks import transports
from geodes_tasks.errors import AuthError, GeodesTasksError, KeyMissingError, UnreachableError
from geodes_tasks.ledger.checks import Check, Level
from geodes_tasks.settings.account_keys import loose_key_files, named_accounts, of_account
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.http.availability import Availability, KeyState
from geodes_tasks.transports.http.http_client import HttpClient
from geodes_tasks.transports.http.responses import parse_date
from geodes_tasks.transports.s3.transport import S3Transport

LANDING = "/api/stac"
TIMEOUT_S = 10.0
"""Seconds that one request may take."""
SKEW_S = 30.0
"""Seconds between the clocks that are no warning: the Date header has whole seconds (RFC 9110
section 5.6.7), and the response takes a while."""


def portal_checks(settings: Config) -> Iterator[Check]:
    """Check the portal: connection, certificate, clock, keys and quota."""
    url = settings.portal_url
    try:
        reply = HttpClient(settings, with_key=False).fetch(url + LANDING, seconds=TIMEOUT_S)
    except GeodesTasksError as error:
        # Its own remedy is for a download: nothing to do, or to run the doctor.
        is_unknown = type(error) is UnreachableError
        mend = "Check the network, the proxy and GEODES_TASKS_PORTAL_URL."
        yield Check("portal", Level.PROBLEM, str(error), mend if is_unknown else error.hint)
        return
    if reply.status >= 500:
        mend = "Wait: downloads continue by themselves when it is well again."
        yield Check("portal", Level.WARNING, f"{url} answers HTTP {reply.status}", mend)
    else:
        is_secure = url.startswith("https:")
        how = "its certificate is trusted" if is_secure else "plain http, loopback"
        yield Check("portal", Level.OK, f"{url} answers, {how}")
    if date := parse_date(reply.headers.get("Date")):
        yield clock_check("portal", date.timestamp() - time.time(), SKEW_S)
    for account in named_accounts(settings):
        check = key_check(of_account(settings, account))
        is_default = account == settings.account
        yield check if is_default else replace(check, name=f"key of account {account}")


def key_file_checks(settings: Config) -> Iterator[Check]:
    """Check that no other user may read a file with a key; the portal need not answer."""
    for file in loose_key_files(settings):
        text = f"{file} holds a key and other users may read it"
        yield Check("key file", Level.WARNING, text, f"chmod 600 {file}")


def clock_check(name: str, skew_s: float, most_s: float) -> Check:
    """Check another clock, which is ``skew_s`` seconds ahead of this machine's."""
    text = f"{abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} this machine"
    if abs(skew_s) <= most_s:
        return Check(f"clock of {name}", Level.OK, text)
    mend = "Let both machines take their time from NTP."
    return Check(f"clock of {name}", Level.WARNING, text, mend)


def key_check(settings: Config) -> Check:
    """Check the key of an account with a request for its quota."""
    try:
        if not settings.key():
            text = f"{settings.key_variable} is not set"
            if has_cluster(settings):
                mend = "The workers need a key; where only items are enqueued none is needed."
                return Check("key", Level.WARNING, f"{text} here", mend)
            return Check("key", Level.PROBLEM, text, KeyMissingError.remedy)
        state = Availability(settings).key_state(TIMEOUT_S)
    except GeodesTasksError as error:
        return Check("key", Level.PROBLEM, str(error), error.hint)
    return key_finding(state, settings.key_name())


def key_finding(state: KeyState, name: str) -> Check:
    """Return the check of a key from what the portal says of it."""
    if state.accepted is False and state.status != 200:
        text = f"{name} was refused (HTTP {state.status})"
        return Check("key", Level.PROBLEM, text, AuthError.remedy)
    if state.left is None:
        text = f"the portal does not say whether it accepts {name} (HTTP {state.status})"
        return Check("key", Level.WARNING, text, "Start a download: its first file shows it.")
    text = f"{name} is accepted, {state.left} of {state.limit} downloads left in this hour"
    if state.left == 0:
        return Check("key", Level.WARNING, text, "Wait: downloads continue by themselves.")
    return Check("key", Level.OK, text)


def s3_checks(settings: Config) -> Iterator[Check]:
    """Check the datalake with a signed request; without credentials it is not needed."""
    # Credentials may come from any step of the AWS chain, so downloads' own choice decides.
    if "s3" not in transports.chosen(settings):
        yield Check("s3", Level.OK, "no S3 credentials: files come from the portal")
        return
    try:
        S3Transport(settings).check_access()
    except GeodesTasksError as error:
        mend = (
            "Correct the S3 credentials and GEODES_TASKS_S3_ENDPOINT_URL (the datalake is reached "
            "from inside CNES only); files come from the portal meanwhile."
        )
        yield Check("s3", Level.WARNING, str(error), mend)
    else:
        yield Check("s3", Level.OK, f"{settings.s3_endpoint_url} accepts the credentials")
