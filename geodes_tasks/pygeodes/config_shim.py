"""``Config`` as pygeodes' users write it: a thin front over the settings."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import AliasChoices, SecretStr

from geodes_tasks.settings import config
from geodes_tasks.settings.config import Settings
from geodes_tasks.settings.files import PYGEODES_FILE, read_pygeodes_file
from geodes_tasks.settings.urls import masked
from geodes_tasks.transports.s3 import credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

NB_MAX_ITEMS = 800_000_000
"""As in pygeodes: practically no limit."""
# What pygeodes knows and nothing here depends on, with its default: taken and given back.
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
    ``redis_url``, ``quota``, ...). What is not given comes from the environment, then from
    ``pygeodes-config.json`` in the current folder, then from the defaults. Nothing is written.

    ``s3_credentials`` may be a function that gives fresh S3 credentials (as CNES's ``assumerole``
    does); a worker in another process finds it by its name, so it should be in a module of its own.
    """

    settings: Settings
    """What all of it comes to; read by the rest of the program."""

    def __init__(self, api_key: str | None = None, **given: Any) -> None:
        """Take what is given; None is not given.

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
        """Read a file of pygeodes, unchanged; the environment wins over it, unknown keys warn.

        Raises:
            ConfigError: the file is missing or not usable.
        """
        path = Path(file).expanduser()
        given = read_pygeodes_file(path)
        weak = {name: value for name, value in given.items() if not _in_environment(name)}
        return cls(**weak, **_idle_in(path))

    def __getattr__(self, name: str) -> Any:
        """Give a setting by its name; secrets as plain text, for the user's own eyes."""
        if name.startswith("_"):
            raise AttributeError(name)
        if name in self._idle:
            return self._idle[name]
        if name not in Settings.model_fields:
            raise AttributeError(f"Config has no {name}")
        value = getattr(self.settings, name)
        return value.get_secret_value() if isinstance(value, SecretStr) else value

    def __setattr__(self, name: str, value: Any) -> None:
        """Change a setting; it counts from the next call on.

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
        """Give a copy with other values; this one stays as it is."""
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
        """Tell whether there is an API key."""
        return bool(self.settings.key())

    def has_s3_parameters(self) -> bool:
        """Tell whether the configuration itself holds S3 credentials."""
        held = self.settings
        return bool(held.aws_access_key_id and held.aws_secret_access_key)

    def __repr__(self) -> str:
        """Show what was given; secrets as stars."""
        shown = (f"{name}={_shown(name, value)}" for name, value in sorted(self._given.items()))
        return f"Config({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        """Compare the settings."""
        return isinstance(other, Config) and self.settings == other.settings

    __hash__ = None  # type: ignore[assignment] # it can change


def _in_environment(field: str) -> bool:
    return any(os.environ.get(name) for name in _variables(field))


def _variables(field: str) -> Iterable[str]:
    alias = Settings.model_fields[field].validation_alias
    if isinstance(alias, AliasChoices):
        return [str(choice) for choice in alias.choices]
    return [config.environment_name(field)]


def _idle_in(path: Path) -> dict[str, Any]:
    """Give the values of a file that only this front knows; the file was read before."""
    data = json.loads(path.read_text())
    return {name: data[name] for name in _IDLE if data.get(name) is not None}


def _shown(name: str, value: Any) -> str:
    secret = Settings.model_fields[name].annotation in (SecretStr, SecretStr | None)
    if name == "redis_url":
        text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        return repr(masked(text))
    return "'***'" if secret else repr(value if not isinstance(value, Path) else str(value))
