"""Secrets among the settings: text that ``repr`` hides, free of what no header can carry."""

from __future__ import annotations


class Secret(str):
    """Text that ``repr`` does not show, so that no traceback and no log line holds it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    @classmethod
    def of(cls, value: object) -> Secret:
        """Return a secret of text, or of a ``SecretStr`` as pydantic has it.

        Raises:
            ValueError: it is no text.
        """
        plain = value.get_secret_value() if hasattr(value, "get_secret_value") else value
        if not isinstance(plain, str):
            raise ValueError("is no text")  # noqa: TRY004 - Field names the setting
        return cls(plain)


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
