"""S3 credentials: from a command, a function, the settings or the AWS tools, replaced in time.

botocore takes half a second to load, so it is loaded only where the AWS tools may have some: every
process checks whether there are credentials at all.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.s3_credentials import Credentials, supplier

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 15.0
"""Seconds until credentials are requested again after a request that brought no new ones."""
# Without one of these variables and files the AWS tools find nothing.
# Source: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
_VARIABLES = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_FILE",
              "AWS_WEB_IDENTITY_", "AWS_CONTAINER_", "BOTO_CONFIG")  # fmt: skip


def has_credentials(settings: Config) -> bool:
    """Return whether settings, environment or files have S3 credentials.

    No command of the settings runs; those of the AWS files run as seldom as for a :class:`Keyring`.
    """
    if supplier(settings):
        return True
    keyring = Keyring.of(settings)
    try:
        return (keyring.current or keyring.fetch()) is not None
    except ConfigError as error:
        logger.warning("no S3 credentials: %s", error)
        return False


def _of_aws() -> Credentials | None:
    """Return the credentials of the AWS tools; None where they have none."""
    if not any(name.startswith(_VARIABLES) for name in os.environ) and not _aws_files():
        return None
    from geodes_tasks.transports.s3.aws_session import chain_credentials

    return (found := chain_credentials()) and Credentials(*found)


def _aws_files() -> list[tuple[str, int, int]]:
    """Return the files of the AWS tools that exist, with inode and time of the last change."""
    found = list[tuple[str, int, int]]()
    for name in (
        os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials",
        os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config",
        "~/.boto",
    ):
        path = os.path.expanduser(name)  # noqa: PTH111 - a tenth of the time of Path, per download
        with suppress(OSError):
            facts = os.stat(path)  # noqa: PTH116
            if stat.S_ISREG(facts.st_mode):
                found.append((path, facts.st_ino, facts.st_mtime_ns))
    return found


class Keyring:
    """The credentials of one process, fetched once for all its threads."""

    def __init__(self, supply: Callable[[], Credentials | None]) -> None:
        """Keep the function that fetches credentials; it is not called yet."""
        self._supply = supply
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._problem: ConfigError | None = None
        """Why the last request failed, while there are no credentials."""
        self._due = self._again = float("-inf")

    @classmethod
    def of(cls, settings: Config) -> Keyring:
        """Return a keyring of the settings, or that of the AWS tools, which a process has once."""
        if supply := supplier(settings):
            return cls(supply)
        variables = [one for one in os.environ.items() if one[0].startswith(("AWS_", "BOTO_"))]
        # A process that was forked has its own: a thread of its parent may have held the lock.
        return _aws_keyring(os.getpid(), *variables, *_aws_files())

    @property
    def current(self) -> Credentials | None:
        """The credentials; None where :meth:`fetch` has to be called, which may wait."""
        return self._current if time.monotonic() < max(self._due, self._again) else None

    def fetch(self, refused: Credentials | None = None) -> Credentials | None:
        """Return the credentials; fetch others, if any, when they expire soon or were refused.

        Raises:
            ConfigError: there were none, and the request failed, now or a moment ago.
        """
        with self._lock:
            before = self._current
            is_wanted = self.current is None or before == refused
            if is_wanted and time.monotonic() >= self._again:
                self._renew(before)
            if self._problem is not None:
                raise self._problem.with_traceback(None)
            return self._current

    def _renew(self, before: Credentials | None) -> None:
        self._problem = None
        try:
            self._current = self._supply()
        except ConfigError as error:
            if before is None:
                self._problem = error
            else:
                logger.warning("no fresh S3 credentials: %s", error)
        now = time.monotonic()
        if self._current == before:
            self._again = now + AGAIN_SECONDS
        else:
            logger.info("S3 credentials read", extra={"action": "s3_credentials"})
        if self._current is not None:
            self._due = now + self._current.due_in_s(datetime.now(UTC))


@lru_cache(maxsize=1)
def _aws_keyring(*_state: object) -> Keyring:
    """Return the keyring of the AWS tools, as long as their variables and files are the same."""
    return Keyring(_of_aws)
