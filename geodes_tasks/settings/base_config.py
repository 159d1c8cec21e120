"""The ways of the configuration: strength of its sources, errors that quote no value."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Self

from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.files import PYGEODES_FILE, SettingsFile, config_file, read_file

POSITIONAL = (
    "api_key", "logging_level", "download_dir", "checksum_error", "use_async_requests",
    "nb_max_items", "aws_access_key_id", "aws_secret_access_key", "aws_session_token",
    "region_name",
)  # fmt: skip
"""Order of pygeodes' positional arguments."""
S3_PARAMETERS = POSITIONAL[6:]
FUNCTIONS: dict[str, Callable[[], Any]] = {}
"""Functions that return S3 credentials, by the setting that names each."""

_reads_files: ContextVar[bool] = ContextVar("reads_files", default=True)
"""Whether the usual files are read too."""


class BaseConfig(BaseSettings):
    """Reads the fields of a subclass from keywords, environment and files."""

    model_config = SettingsConfigDict(
        env_prefix="GEODES_TASKS_",
        env_ignore_empty=True,
        extra="ignore",
        validate_assignment=True,
        validate_default=True,
        populate_by_name=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    def __setattr__(self, name: str, value: Any) -> None:
        """Change a setting, from the next use on.

        Raises:
            AttributeError: there is no such setting.
            ConfigError: the value cannot be used.
        """
        if not name.startswith("_") and name not in type(self).model_fields:
            raise AttributeError(f"Config has no {name}{self.nearest(name)}")
        try:
            super().__setattr__(name, value)
        except ValidationError as error:
            raise self.config_error(error) from None

    @classmethod
    def from_file(cls, file: str | Path = PYGEODES_FILE) -> Self:
        """Return the configuration of one file, which wins over the environment.

        Args:
            file: Of pygeodes (JSON), or with our names (``.toml``); the usual files are not read.

        Raises:
            ConfigError: the file is missing or not usable.
        """
        token = _reads_files.set(False)
        try:
            return cls(**read_file(Path(file).expanduser(), cls.model_fields))
        finally:
            _reads_files.reset(token)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - a fixed signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first: keywords, environment, files."""
        usual = Path(PYGEODES_FILE), config_file()
        files = [SettingsFile(settings_cls, path) for path in usual if _reads_files.get()]
        return init_settings, env_settings, *files

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that pygeodes has, by its names; secrets as plain text."""
        return {name: getattr(self, name) for name in POSITIONAL}

    @property
    def s3_parameters(self) -> dict[str, str | None]:
        """The settings of S3 by pygeodes' names."""
        return {name: getattr(self, name) for name in S3_PARAMETERS}

    def has_s3_parameters(self) -> bool:
        """Return whether the configuration itself has S3 credentials."""
        return all(getattr(self, name) for name in S3_PARAMETERS[:2])

    def check_s3_config(self) -> None:
        """Check that the configuration itself has S3 credentials.

        Raises:
            ConfigError: a part of them is missing.
        """
        for name in S3_PARAMETERS[:2]:
            if not getattr(self, name):
                raise ConfigError(self.variables(name)[0], "is not set, and S3 needs it")

    @classmethod
    def variables(cls, field: str) -> list[str]:
        """Return the environment variables that set a field, the strongest first."""
        info = cls.model_fields.get(field)
        alias = info.validation_alias if info else None
        if isinstance(alias, AliasChoices):
            return [str(choice) for choice in alias.choices]
        # Errors name a field by its variable already where the environment set it.
        return [field if field.isupper() else f"GEODES_TASKS_{field.upper()}"]

    @classmethod
    def nearest(cls, name: str) -> str:
        """Return the end of a message with the known name that is most like this one."""
        found = difflib.get_close_matches(name, cls.model_fields, 1)
        return f"; did you mean {found[0]}?" if found else ""

    @classmethod
    def config_error(cls, error: ValidationError) -> ConfigError:
        """Return the error that names the setting and does not quote the value."""
        # Not chained where it is raised: pydantic keeps the value, which may be a secret.
        first = error.errors(include_url=False, include_input=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "settings"
        return ConfigError(cls.variables(name)[0], first["msg"].removeprefix("Value error, "))
