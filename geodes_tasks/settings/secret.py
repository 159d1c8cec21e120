"""Secrets among the settings: text that ``repr`` hides, free of what no header can carry."""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from pydantic_core import CoreSchema, core_schema


class Secret(str):
    """Text that neither ``repr`` nor JSON shows, so that no traceback and no log line holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def get_secret_value(self) -> str:
        """Return the plain text."""
        return str(self)

    @classmethod
    def of(cls, value: object) -> Secret:
        """Return a secret of text, or of pydantic's secret text.

        Raises:
            ValueError: it is no text.
        """
        plain = value.get_secret_value() if isinstance(value, SecretStr) else value
        if not isinstance(plain, str):
            raise ValueError("is no text")  # noqa: TRY004 - pydantic collects ValueErrors
        return cls(plain)

    @classmethod
    def __get_pydantic_core_schema__(cls, *_: Any) -> CoreSchema:
        """Validate as ``of``; hide the text in JSON."""
        hidden = core_schema.plain_serializer_function_ser_schema(lambda _: "***", when_used="json")
        return core_schema.no_info_plain_validator_function(cls.of, serialization=hidden)


def secret_word(value: object) -> Secret | None:
    """Return a key or secret without the white space or quotes around it; None if nothing is left.

    Raises:
        ValueError: white space or control characters inside, which an HTTP header cannot carry.
    """
    word = Secret.of(value).strip("\ufeff \t\r\n") if value is not None else ""
    # `docker run --env-file` and editors of such files keep quotes as part of the value.
    if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"":
        word = word[1:-1].strip()
    # RFC 9110 section 5.5: a field value has no control characters; a line break would begin a
    # new header.
    if any(not character.isprintable() or character.isspace() for character in word):
        raise ValueError("holds white space or control characters; copy the key again")
    return Secret(word) if word else None
