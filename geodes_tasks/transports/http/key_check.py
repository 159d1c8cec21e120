"""Check after a refusal: does the portal refuse the key, or one file for this key?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from geodes_tasks.errors import AuthError, ForbiddenError, KeyMissingError
from geodes_tasks.settings.account_keys import of_account
from geodes_tasks.settings.config import Config

KNOWN_SECONDS = 5.0
"""Seconds for which one response of the portal counts for further refusals of the same key."""
REQUEST_SECONDS = 10.0
"""Seconds that the portal may take for it: other refusals wait for the same response."""


class KeyCheck:
    """Checks at a limited rate whether the portal accepts a key. Safe for many threads."""

    def __init__(self, settings: Config) -> None:
        """Keep the settings; no request is sent."""
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, bool | None]] = {}
        """By account and key: the time of the response, on the monotonic clock, and its result."""

    def classify(
        self, error: Exception, account: str, gave_since: Callable[[], bool] | None = None
    ) -> Exception:
        """Return the error, or a ForbiddenError when the portal accepts the key for other requests.

        Args:
            error: Any error; only a refusal of a key that was sent is checked.
            account: Name of the account of the key.
            gave_since: Returns whether this key has downloaded a file since; used when the check
                has no clear result.
        """
        # A key that is missing was not sent, so this refusal is not about the file.
        if not isinstance(error, AuthError) or isinstance(error, KeyMissingError):
            return error
        accepted = self.accepts(account, error.key_name)
        if accepted is None and gave_since is not None:
            accepted = gave_since()
        return ForbiddenError(error.href, error.key_name, error.problem) if accepted else error

    def accepts(self, account: str, key_name: str) -> bool | None:
        """Return whether the portal accepts a key now; None when its response is not clear.

        Args:
            account: Name of the account of the key.
            key_name: Name of the key in messages; None is returned if the key was replaced.
        """
        # Loading a client for HTTP opens a socket, which no import of a worker may do.
        from geodes_tasks.transports.http.availability import Availability

        # The lock covers the request, so that sixteen threads refused at once send only one.
        with self._lock:
            checked_at, accepted = self._known.get((account, key_name), (float("-inf"), None))
            if time.monotonic() - checked_at >= KNOWN_SECONDS:
                portal = Availability(of_account(self._settings, account))
                accepted = portal.accepts(key_name, REQUEST_SECONDS)
                # The time after the response: the others have waited for it.
                self._known[account, key_name] = time.monotonic(), accepted
            return accepted
