"""Files that settings come from: pygeodes-config.json, files with a key, files with a password."""

from __future__ import annotations

import json
import logging
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource

from geodes_tasks.errors import ConfigError

logger = logging.getLogger(__name__)

PYGEODES_FILE = "pygeodes-config.json"
"""The file that pygeodes reads from the current folder."""

PYGEODES_KEYS: dict[str, str | None] = {
    "api_key": "api_key",
    "download_dir": "download_dir",
    "aws_access_key_id": "aws_access_key_id",
    "aws_secret_access_key": "aws_secret_access_key",
    "aws_session_token": "aws_session_token",
    "region_name": "region_name",
    "logging_level": None,
    "checksum_error": None,
    "use_async_requests": None,
    "nb_max_items": None,
}
"""Key of pygeodes to the field of our settings; None for keys that have no effect here."""

named_file: ContextVar[Path | None] = ContextVar("named_file", default=None)
"""The pygeodes file to read instead of the one in the current folder."""


class PygeodesFile(PydanticBaseSettingsSource):
    """The settings in a pygeodes file: the named one, else the one in the current folder."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Raise: pydantic requires this method, and ``__call__`` reads all fields at once."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """Return the values of the file; a named file must exist, the other need not."""
        named, usual = named_file.get(), Path(PYGEODES_FILE)
        if named is not None:
            return read_pygeodes_file(named)
        return read_pygeodes_file(usual) if usual.is_file() else {}


def read_pygeodes_file(path: Path) -> dict[str, Any]:
    """Return the settings in a configuration file of pygeodes, by our names; log unknown keys.

    Raises:
        ConfigError: the file cannot be read, is not JSON, or is no object.
    """
    try:
        # Editors on Windows begin UTF-8 files with a byte order mark, which json refuses.
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(str(path), "is not a JSON object")
    if unknown := sorted(set(data) - set(PYGEODES_KEYS)):
        logger.warning("%s: unknown keys are ignored: %s", path, ", ".join(unknown))
    pairs = ((PYGEODES_KEYS.get(key), value) for key, value in data.items())
    return {name: value for name, value in pairs if name and value not in (None, "")}


def secret_word(value: object) -> object:
    """Return a key or secret without the white space around it; None if nothing is left.

    Raises:
        ValueError: white space or control characters inside, which an HTTP header cannot carry.
    """
    if not isinstance(value, str):
        return value
    word = value.strip()
    # RFC 9110 section 5.5: a field value has no control characters; a line break would begin a
    # new header.
    if any(not character.isprintable() or character.isspace() for character in word):
        raise ValueError("holds white space or control characters; copy the key again")
    return word or None


def read_key(file: Path, variable: str) -> str | None:
    """Return the key in a file, None if the file is empty.

    Raises:
        ConfigError: the file cannot be read, or it holds no key; ``variable`` is named.
    """
    try:
        text = file.expanduser().read_text(encoding="utf-8")
        return str(secret_word(text) or "") or None
    except UnicodeDecodeError:
        # Not chained: the text of this error quotes the file.
        raise ConfigError(variable, "the file is not UTF-8 text") from None
    except (OSError, ValueError) as error:
        raise ConfigError(variable, str(error)) from error


def with_password(url: str, file: Path) -> str:
    """Return an address of Redis with the password in a file.

    An address that has a password, or that is a socket, is returned as it is.

    Raises:
        ValueError: the file cannot be read or is empty; nothing of its content is quoted.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"redis", "rediss"} or parts.password:
        return url
    try:
        password = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        # Not the text of the error: UnicodeDecodeError quotes the file.
        problem = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ValueError(f"its password file {file} cannot be read: {problem}") from None
    if not password:
        raise ValueError(f"its password file {file} is empty")
    host = parts.netloc.rpartition("@")[2]
    user = parts.username or ""
    # redis-py unquotes the password (redis.connection.parse_url), so `/` and `@` are quoted here.
    return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))
