"""Where S3 credentials come from: a command, a function, the settings, or the AWS tools.

botocore takes half a second to load, so it is loaded only where the AWS tools may have some: every
process checks whether there are credentials at all.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import Settings
from geodes_tasks.transports.s3.credentials import Credentials, supplier

logger = logging.getLogger(__name__)

AGAIN_SECONDS = 15.0
"""Seconds until credentials are requested again after a request that brought no new ones."""

# Without one of these variables and files the AWS tools find nothing.
# Source: https://boto3.amazonaws.com/v1/documentation/api/latest/guide/credentials.html
_VARIABLES = (
    "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI", "BOTO_CONFIG",
)  # fmt: skip
_FILES = {
    "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials",
    "AWS_CONFIG_FILE": "~/.aws/config",
    "": "~/.boto",
}


def has_credentials(settings: Settings) -> bool:
    """Return whether settings, environment or files have S3 credentials.

    No command or function is run for that. The EC2 metadata service is never requested: elsewhere
    that costs seconds and finds nothing.
    """
    if supplier(settings):
        return True
    try:
        return _of_aws() is not None
    except ConfigError as error:
        logger.warning("no S3 credentials: %s", error)
        return False


def _of_aws() -> Credentials | None:
    """Return the credentials of the AWS tools; None where they have none."""
    files = (Path(os.environ.get(name) or usual) for name, usual in _FILES.items())
    if not any(map(os.environ.get, _VARIABLES)) and not any(
        file.expanduser().is_file() for file in files
    ):
        return None
    from geodes_tasks.transports.s3.aws_session import chain_credentials

    return chain_credentials()


class Keyring:
    """The credentials of one process, fetched once for all its threads."""

    def __init__(self, settings: Settings) -> None:
        self._supply = supplier(settings) or _of_aws
        self._lock = threading.Lock()
        self._current: Credentials | None = None
        self._due = self._in_vain_until = float("-inf")

    @property
    def current(self) -> Credentials | None:
        """The credentials; None where :meth:`fetch` has to be called, which may wait."""
        return self._current if time.monotonic() < self._due else None

    def fetch(self) -> Credentials | None:
        """Return the credentials, new ones where the present ones are about to expire.

        Returns:
            None where there are none.

        Raises:
            ConfigError: they cannot be fetched.
        """
        with self._lock:
            if self.current is None:
                try:
                    self._replace()
                except ConfigError as error:
                    if self._current is None:
                        raise
                    logger.warning("the S3 credentials are about to expire: %s", error)
                    self._due = time.monotonic() + AGAIN_SECONDS
            return self._current

    def renew(self, refused: Credentials) -> bool:
        """Return whether there are other credentials than those that a server refused."""
        with self._lock:
            now = time.monotonic()
            if refused == self._current and now >= self._in_vain_until:
                try:
                    self._replace()
                except ConfigError as error:
                    logger.warning("no fresh S3 credentials: %s", error)
                if refused == self._current:
                    self._in_vain_until = now + AGAIN_SECONDS
            return refused != self._current

    def _replace(self) -> None:
        found = self._supply()
        if found != self._current:
            logger.info("S3 credentials read", extra={"action": "s3_credentials"})
        self._current = found
        if found is not None:
            self._due = time.monotonic() + found.due_in_s(datetime.now(UTC))
