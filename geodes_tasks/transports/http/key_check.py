"""Judge a refusal by the portal: of the account's key, or of one file that the key may not have."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from geodes_tasks.errors import AuthError, ForbiddenError, KeyMissingError
from geodes_tasks.settings.account_keys import of_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from geodes_tasks.settings.config import Settings

KNOWN_SECONDS = 5.0
"""So long an answer of the portal counts for further refusals of the same key."""


class KeyCheck:
    """Ask the portal whether it accepts a key, seldom. Safe to use from many threads."""

    def __init__(self, settings: Settings) -> None:
        """Prepare; asks nothing."""
        self._settings = settings
        self._lock = threading.Lock()
        self._known: dict[tuple[str, str], tuple[float, bool | None]] = {}
        """By account and key: when it was asked, and the answer."""

    def judged(
        self, error: Exception, account: str, gave_since: Callable[[], bool] | None = None
    ) -> Exception:
        """Return the error, as a ForbiddenError where the portal accepts the key elsewhere.

        Args:
            error: Any; only a refusal of a key that was sent is looked at.
            account: Whose key it was.
            gave_since: Checks whether the portal gave a file to this key since; asked where the
                portal does not answer the question.
        """
        # A key that is missing, or was not sent, says nothing of the file.
        if not isinstance(error, AuthError) or isinstance(error, KeyMissingError):
            return error
        accepted = self.accepts(account, error.key_name)
        if accepted is None and gave_since is not None:
            accepted = gave_since()
        return ForbiddenError(error.href, error.key_name, error.problem) if accepted else error

    def accepts(self, account: str, key_name: str) -> bool | None:
        """Return whether the portal accepts a key now; None where it does not say.

        Args:
            account: Whose key.
            key_name: As messages name it; another one in its place by now says nothing of it.
        """
        # Loading a client for HTTP opens a socket, which no import of a worker may do.
        from geodes_tasks.transports.http.availability import Availability

        with self._lock:
            now = time.monotonic()
            asked, accepted = self._known.get((account, key_name), (float("-inf"), None))
            if now - asked >= KNOWN_SECONDS:
                accepted = Availability(of_account(self._settings, account)).accepts(key_name)
                self._known[account, key_name] = now, accepted
            return accepted
