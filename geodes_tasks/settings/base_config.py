"""The base of the configuration: values from their strongest source, copies, pygeodes' methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.fields import Field
from geodes_tasks.settings.files import (
    PYGEODES_FILE,
    PYGEODES_NAMES,
    read_file,
    read_usual,
    variables,
)
from geodes_tasks.settings.user_calls import FUNCTIONS

S3_PARAMETERS = PYGEODES_NAMES[6:]


class BaseConfig:
    """Reads the fields of a subclass from keywords, environment and files."""

    fields: ClassVar[dict[str, Field[Any]]] = {}
    """The settings by name, in the order in which they are parsed."""
    given: frozenset[str]
    """Names of the settings that are not left at their defaults."""

    def __init__(self, *positional: Any, **given: Any) -> None:
        """Use the given values; None counts as not given.

        Raises:
            TypeError: there is no such name, a name is given twice, or it is no function.
            ConfigError: a value cannot be used; its setting is named, the value is not quoted.
        """
        named = dict(zip(PYGEODES_NAMES, positional, strict=False))
        if len(positional) > len(PYGEODES_NAMES) or named.keys() & given:
            raise TypeError(f"Config takes {', '.join(PYGEODES_NAMES)} in this order, each once")
        given = named | given
        if function := given.pop("s3_credentials", None):
            if not callable(function):
                raise TypeError(f"s3_credentials is a function, not {type(function).__name__}")
            name = getattr(function, "__name__", "credentials").strip("<>")
            given["s3_credentials_command"] = name = f"{function.__module__}:{name}"
            FUNCTIONS[name] = function
        for name in given:
            if name not in self.fields:
                raise TypeError(f"Config has no {name}{self.nearest(name)}")
        stronger = _environment(self.fields), given
        files = read_usual(self.fields, _merged(*stronger))
        self._fill(*(values for _, values in files), *stronger)

    @classmethod
    def from_file(cls, file: str | Path = PYGEODES_FILE) -> Self:
        """Return the configuration of one file, which wins over the environment.

        Args:
            file: Of pygeodes (JSON), or with our names (``.toml``); the usual files are not read.

        Raises:
            ConfigError: the file is missing or not usable.
        """
        found = cls.__new__(cls)
        found._fill(_environment(cls.fields), read_file(Path(file).expanduser(), cls.fields))
        return found

    def _fill(self, *sources: Mapping[str, Any]) -> None:
        """Set every setting from its strongest source, the last one that has it."""
        values = _merged(*sources)
        self.__dict__["given"] = frozenset(values)
        for name, field in self.fields.items():
            if name in values:
                field.__set__(self, values[name])
            else:
                field.set_default(self)

    def __setattr__(self, name: str, value: Any) -> None:
        """Change a setting, from the next use on.

        Raises:
            AttributeError: there is no such setting.
            ConfigError: the value cannot be used.
        """
        if not name.startswith("_") and name not in self.fields:
            raise AttributeError(f"Config has no {name}{self.nearest(name)}")
        super().__setattr__(name, value)
        self.__dict__["given"] |= {name}

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some settings changed.

        Raises:
            AttributeError: there is no such setting.
            ConfigError: a value cannot be used.
        """
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__)
        ordered = {name: changes.pop(name) for name in self.fields if name in changes}
        for name, value in (ordered | changes).items():
            setattr(copy, name, value)
        return copy

    def __eq__(self, other: object) -> bool:
        """Return whether all settings are the same."""
        return isinstance(other, BaseConfig) and self._values() == other._values()

    def __hash__(self) -> int:
        """Return a hash of the present values, for caches that compare the values too."""
        return hash(self._values())

    def _values(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.fields)

    def __repr__(self) -> str:
        # The address of a webhook is a secret for most services.
        shown = [name for name in self.fields if not name.startswith("on_")]
        return f"Config({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that pygeodes has, by its names; secrets as plain text."""
        return {name: getattr(self, name) for name in PYGEODES_NAMES}

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
                raise ConfigError(self.fields[name].variables[0], "is not set, and S3 needs it")

    @classmethod
    def nearest(cls, name: str) -> str:
        """Return the end of a message with the known name that is most like this one."""
        import difflib

        found = difflib.get_close_matches(name, cls.fields, 1)
        return f"; did you mean {found[0]}?" if found else ""


def _merged(*sources: Mapping[str, Any]) -> dict[str, Any]:
    """Return each value of the last source that has it; None is none."""
    return {
        name: value for source in sources for name, value in source.items() if value is not None
    }


def _environment(fields: Mapping[str, Field[Any]]) -> dict[str, str]:
    """Return the settings in the environment."""
    present = variables()
    return {
        name: present[variable]
        for name, field in fields.items()
        # The strongest one last: it stays.
        for variable in reversed(field.variables)
        if variable in present
    }
