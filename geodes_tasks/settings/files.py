"""Sources of settings: the environment, pygeodes-config.json, config.toml, files with a secret."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from platformdirs import user_config_path

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.secret import secret_word

logger = logging.getLogger(__name__)

PYGEODES_FILE = "pygeodes-config.json"
"""The file that pygeodes reads from the current folder."""
PYGEODES_NAMES = (
    "api_key", "logging_level", "download_dir", "checksum_error", "use_async_requests",
    "nb_max_items", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
    "region_name",
)  # fmt: skip
"""The settings of pygeodes, in the order of its positional arguments."""


def config_file() -> Path:
    """Return the path of the user's own file, which may hold every setting."""
    return user_config_path("geodes-tasks") / "config.toml"


def read_usual(
    known: Collection[str], stronger: Collection[str] = ()
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the files that are read without being named, the weakest first, with their settings.

    The current folder may be a stranger's: its file has the settings of pygeodes only, none that
    runs a command or names a host to which the key goes.

    Args:
        known: Names of all settings.
        stronger: Names that a stronger source has: that they are refused here makes no difference.

    Raises:
        ConfigError: a file cannot be read, or is no table of settings.
    """
    own, of_folder = config_file(), Path(PYGEODES_FILE)
    if own.is_file():
        yield own, read_file(own, known)
    if of_folder.is_file():
        values = read_file(of_folder, known)
        if refused := sorted(values.keys() - {*PYGEODES_NAMES, *stronger}):
            logger.warning(
                "%s in the current folder may have the settings of pygeodes only: %s ignored; put "
                "them into %s",
                PYGEODES_FILE, ", ".join(refused), own,
            )  # fmt: skip
        yield of_folder, {name: values[name] for name in PYGEODES_NAMES if name in values}


def variables() -> dict[str, str]:
    """Return the environment by names in capitals, whose case is free; an empty one is not set."""
    return {name.upper(): value for name, value in os.environ.items() if value}


def read_file(path: Path, known: Collection[str]) -> dict[str, Any]:
    """Return the settings in a file: TOML with our names, or JSON of pygeodes; log unknown names.

    Raises:
        ConfigError: the file cannot be read, or is no table of settings.
    """
    kind = "TOML" if path.suffix == ".toml" else "JSON"
    try:
        # Editors on Windows begin UTF-8 files with a byte order mark, which both parsers refuse.
        text = path.read_text(encoding="utf-8-sig")
        if kind == "TOML":
            import tomllib

            data = tomllib.loads(text)
        else:
            data = json.loads(text)
    except OSError as error:
        raise ConfigError(str(path), f"cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(str(path), f"cannot be read as {kind}: {error}") from error
    if not isinstance(data, dict):
        raise ConfigError(str(path), "is not a JSON object")
    if unknown := sorted(set(data) - set(known)):
        names = ", ".join(map(repr, unknown))
        logger.warning("%s: unknown keys are ignored: %s", path, names)
    return {
        name: value for name, value in data.items() if name in known and value not in (None, "")
    }


def read_key(file: Path, variable: str) -> str | None:
    """Return the key in a file, None if the file is empty.

    Raises:
        ConfigError: the file cannot be read, or it holds no key; ``variable`` is named.
    """
    try:
        text = file.expanduser().read_text(encoding="utf-8")
        return secret_word(text)
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
    if parts.scheme not in {"redis", "rediss", "sentinel"} or parts.password:
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
