"""The fields of the configuration: a default, variables, and a function that parses each value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar, overload

from geodes_tasks.errors import ConfigError

T = TypeVar("T")
Number = TypeVar("Number", int, float)


class Field(Generic[T]):
    """One setting, a descriptor: a value is parsed when it is set."""

    def __init__(self, default: object, parse: Callable[[Any], T], *variables: str) -> None:
        """Describe the setting.

        Args:
            default: Parsed like every other value; a function is called for it.
            parse: Returns the value of a text, or of what a keyword or TOML gives. Raises
                ValueError with a text that does not quote a secret.
            variables: Its own variables in the environment, the strongest first.
        """
        self.default, self.parse, self.variables = default, parse, variables

    def __set_name__(self, owner: Any, name: str) -> None:
        """Take the name in the class, and register there."""
        self.name = name
        self.variables = self.variables or (f"GEODES_TASKS_{name.upper()}",)
        owner.fields[name] = self

    @overload
    def __get__(self, config: None, owner: Any = None) -> Field[T]: ...
    @overload
    def __get__(self, config: object, owner: Any = None) -> T: ...
    def __get__(self, config: object | None, owner: Any = None) -> Field[T] | T:
        """Return the value."""
        if config is None:
            return self
        value: T = config.__dict__[self.name]
        return value

    def __set__(self, config: object, value: object) -> None:
        """Parse and keep a value.

        Raises:
            ConfigError: it cannot be used; the setting is named, the value is not quoted.
        """
        if "\0" in str(value):  # a file has any text, and a path with one is a ValueError later
            raise ConfigError(self.variables[0], "holds a null character")
        try:
            config.__dict__[self.name] = self.parsed(config, value)
        except (TypeError, ValueError) as error:
            # Not chained: the error below may quote a secret.
            raise ConfigError(self.variables[0], str(error)) from None

    def parsed(self, config: object, value: object) -> T:  # noqa: ARG002 - for subclasses
        """Return the parsed value; the settings above this one are known already."""
        return self.parse(value)

    def set_default(self, config: object) -> None:
        """Set the default."""
        self.__set__(config, self.default() if callable(self.default) else self.default)


def text(value: object) -> str:
    """Return text as it is.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(value, str):
        raise ValueError("must be text")  # noqa: TRY004 - Field names the setting
    return value


def matching(pattern: str, form: str) -> Callable[[object], str]:
    """Return a parser of text that has to match a pattern; ``form`` describes it."""

    def parse(value: object) -> str:
        if not re.fullmatch(pattern, text(value)):
            raise ValueError(f"must have {form}")
        return text(value)

    return parse


def one_of(*choices: str) -> Callable[[object], str]:
    """Return a parser of one of some words."""

    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return str(value)

    return parse


def number(
    kind: type[Number], *, least: Number | None = None, above: Number | None = None
) -> Callable[[object], Number]:
    """Return a parser of finite numbers.

    Args:
        kind: ``int`` or ``float``.
        least: The least value that is accepted.
        above: Accepted values are greater than this one.
    """

    def parse(value: object) -> Number:
        try:
            found = kind(str(value))
        except ValueError:
            word = "a whole number" if kind is int else "a number"
            raise ValueError(f"must be {word}") from None
        if not math.isfinite(found):
            raise ValueError("must be a finite number")
        if least is not None and found < least:
            raise ValueError(f"must be at least {least}")
        if above is not None and found <= above:
            raise ValueError(f"must be greater than {above}")
        return found

    return parse


def boolean(value: object) -> bool:
    """Return a truth value of its usual words.

    Raises:
        ValueError: none of these.
    """
    words = {"true": True, "yes": True, "on": True, "1": True}
    words |= {"false": False, "no": False, "off": False, "0": False}
    if (word := str(value).strip().lower()) not in words:
        raise ValueError("must be true or false")
    return words[word]


def optional(parse: Callable[[Any], T]) -> Callable[[Any], T | None]:
    """Return the same parser for settings that may be None."""
    return lambda value: None if value is None else parse(value)
