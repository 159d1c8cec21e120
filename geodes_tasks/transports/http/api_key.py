"""The API key: read anew for each request, checked before it is sent, kept out of messages."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from geodes_tasks.errors import ConfigError, KeyMissingError
from geodes_tasks.transports.http.addresses import redact

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Settings

HEADER = "X-API-Key"

_SENDABLE = re.compile(r"[\x21-\x7e]+\Z")
# Previews are given to everybody, so a user without a key still gets those.
_KEYLESS = "/api/quicklook/"


class ApiKey:
    """The key of the settings; a replaced key file is seen at the next request."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def header(self, url: str) -> dict[str, str]:
        """Give the header for an address of the portal; empty where none is needed or set.

        Raises:
            KeyMissingError: there is no key, it cannot be read, or it cannot be sent.
        """
        try:
            key = (self._settings.key() or "").strip()
        except ConfigError as error:
            raise KeyMissingError(redact(url), error.setting, error.problem) from error
        if not key and urlsplit(url).path.startswith(_KEYLESS):
            return {}
        if not key:
            raise KeyMissingError(redact(url), self._settings.key_variable, "is not set")
        if not _SENDABLE.match(key):
            # Said here, because http.client would quote the key in its complaint.
            raise KeyMissingError(redact(url), self.name(), "holds characters that no key has")
        return {HEADER: key}

    def name(self) -> str:
        """Name the key for messages, never whole."""
        with suppress(ConfigError):
            return self._settings.key_name()
        return "the key"

    def scrubbed(self, text: str) -> str:
        """Take the key out of words that a server sent, should it echo the request."""
        with suppress(ConfigError):
            key = (self._settings.key() or "").strip()
            return text.replace(key, "***") if key else text
        return text
