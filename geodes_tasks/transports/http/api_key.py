"""API key: read again for each request, checked before it is sent, kept out of messages."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import urlsplit

from geodes_tasks.errors import ConfigError, KeyMissingError
from geodes_tasks.model.asset import PREVIEW_ROUTE
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.http.addresses import redact

HEADER = "X-API-Key"

# Visible ASCII: the part of a field value that every server accepts (RFC 9110 section 5.5).
_SENDABLE = re.compile(r"[\x21-\x7e]+\Z")


class ApiKey:
    """Key of the settings; a replaced key file takes effect at the next request."""

    def __init__(self, settings: Config) -> None:
        self._settings = settings

    def header(self, url: str) -> dict[str, str]:
        """Return the header for an address of the portal; empty for a preview without a key.

        Raises:
            KeyMissingError: there is no key, it cannot be read, or it cannot be sent.
        """
        try:
            key = (self._settings.key() or "").strip()
        except ConfigError as error:
            raise KeyMissingError(redact(url), error.setting, error.problem) from error
        if not key and urlsplit(url).path.startswith(PREVIEW_ROUTE):
            return {}
        if not key:
            raise KeyMissingError(redact(url), self._settings.key_variable, "is not set")
        if not _SENDABLE.match(key):
            # http.client refuses it too, but its ValueError quotes the whole value.
            raise KeyMissingError(redact(url), self.name(), "holds characters that no key has")
        return {HEADER: key}

    def name(self) -> str:
        """Return a name of the key for messages, never the whole key."""
        with suppress(ConfigError):
            return self._settings.key_name()
        return "the key"

    def secrets(self) -> set[str]:
        """Return the key, which no message may show; nothing where there is none."""
        with suppress(ConfigError):
            return {(self._settings.key() or "").strip()} - {""}
        return set()
