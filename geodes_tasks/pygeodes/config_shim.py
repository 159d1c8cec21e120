"""``Config`` with pygeodes' names: a thin layer over the settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, SecretStr

from geodes_tasks.settings import config
from geodes_tasks.settings.config import Settings
from geodes_tasks.settings.files import PYGEODES_FILE, read_pygeodes_file
from geodes_tasks.settings.urls import masked
from geodes_tasks.transports.s3 import credentials

NB_MAX_ITEMS = 800_000_000
"""Number of items that a search may find, pygeodes' default: no limit in practice."""
# Names of pygeodes on which nothing here depends, with its defaults: accepted and returned.
_IDLE: dict[str, Any] = {
    "logging_level": "INFO",
    "checksum_error": True,
    "use_async_requests": True,
    "nb_max_items": NB_MAX_ITEMS,
}


class Config:
    """The configuration of a :class:`Geodes` object.

    Takes pygeodes' names (``api_key``, ``download_dir``, ``nb_max_items``,
    ``aws_access_key_id``, ...) and every field of :class:`Settings` (``portal_url``,
    ``redis_url``, ``quota``, ...). Missing values come from the environment, then from
    ``pygeodes-config.json`` in the current folder, then from the defaults. Nothing is written.

    ``s3_credentials`` may be a function that returns fresh S3 credentials (as CNES's
    ``assumerole`` does); workers import it by its name, so define it in a module of its own.
    """

    settings: Settings
    """The resulting settings, which the rest of the program reads."""

    def __init__(self, api_key: str | None = None, **given: Any) -> None:
        """Use the given values; None counts as not given.

        Raises:
            TypeError: there is no such name.
            ConfigError: a value cannot be used.
        """
        given["api_key"] = api_key
        if function := given.pop("s3_credentials", None):
            given["s3_credentials_command"] = credentials.given(function)
        unknown = sorted(set(given) - set(Settings.model_fields) - set(_IDLE))
        if unknown:
            raise TypeError(f"Config has no {', '.join(unknown)}")
        self._idle = _IDLE | {name: given.pop(name) for name in _IDLE if name in given}
        self._given = {name: value for name, value in given.items() if value is not None}
        self.settings = config.load(**self._given)

    @classmethod
    def from_file(cls, file: str | Path = PYGEODES_FILE) -> Self:
        """Return the configuration of pygeodes' file; the environment wins, unknown keys warn.

        Raises:
            ConfigError: the file is missing or not usable.
        """
        path = Path(file).expanduser()
        given = read_pygeodes_file(path)
        weak = {name: given[name] for name in given if not _is_in_environment(name)}
        # `read_pygeodes_file` returns only the fields of the settings, and has proven the JSON.
        data = json.loads(path.read_text())
        idle = {name: data[name] for name in _IDLE if data.get(name) is not None}
        return cls(**weak, **idle)

    def __getattr__(self, name: str) -> Any:
        """Return a setting by its name; secrets as plain text, as in pygeodes."""
        # `copy` and `pickle` look up private names before __init__ has run: no lookup of ours.
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._idle:
            return self._idle[name]
        if name not in Settings.model_fields:
            raise AttributeError(f"Config has no {name}")
        value = getattr(self.settings, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    def __setattr__(self, name: str, value: Any) -> None:
        """Change a setting, from the next call on.

        Raises:
            ConfigError: the value cannot be used.
        """
        if name in _IDLE:
            self._idle[name] = value
        elif name in Settings.model_fields:
            given = self._given | {name: value}
            settings = config.load(**given)
            super().__setattr__("_given", given)
            super().__setattr__("settings", settings)
        else:
            super().__setattr__(name, value)

    def replaced(self, **given: Any) -> Config:
        """Return a copy with other values."""
        return Config(**(self._idle | self._given | given))

    @property
    def download_dir(self) -> str:
        """The download folder, absolute. Can be set, as every field."""
        return str(self.settings.download_dir.expanduser().absolute())

    @download_dir.setter
    def download_dir(self, value: str | Path) -> None:
        self.__setattr__("download_dir", value)

    @property
    def has_api_key(self) -> bool:
        """Return whether there is an API key."""
        return bool(self.settings.key())

    def has_s3_parameters(self) -> bool:
        """Return whether the configuration itself has S3 credentials."""
        settings = self.settings
        return bool(settings.aws_access_key_id and settings.aws_secret_access_key)

    def __repr__(self) -> str:
        """Show the given values; secrets as stars."""
        shown = (f"{name}={_shown(name, value)}" for name, value in sorted(self._given.items()))
        return f"Config({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        """Compare the settings."""
        return isinstance(other, Config) and self.settings == other.settings

    __hash__ = None  # type: ignore[assignment] # it can change


def _is_in_environment(field: str) -> bool:
    """Return whether a variable of the environment sets a field."""
    # The API key and the fields of AWS have names of their own beside GEODES_TASKS_*.
    alias = Settings.model_fields[field].validation_alias
    names = [config.environment_name(field)]
    if isinstance(alias, AliasChoices):
        names = [str(choice) for choice in alias.choices]
    return any(os.environ.get(name) for name in names)


def _shown(name: str, value: Any) -> str:
    secret = Settings.model_fields[name].annotation in (SecretStr, SecretStr | None)
    # The address of Redis is of use without its password: only that is masked.
    if name == "redis_url":
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        return repr(masked(text))
    return "'***'" if secret else repr(value if not isinstance(value, Path) else str(value))
