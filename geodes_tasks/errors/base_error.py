"""The base of every error: values, one line of text made of them, a reaction and a remedy."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import ClassVar, dataclass_transform

from geodes_tasks.errors.remedies import for_reader


class Reaction(StrEnum):
    """How the workers react to a failure."""

    TRANSIENT = "transient"
    """Retry after a back-off; the attempt counts."""
    QUOTA = "quota"
    """The account waits until its quota window reopens; no attempt is counted."""
    THROTTLED = "throttled"
    """Wait as long as the portal asks for, then retry; no attempt is counted."""
    AUTH = "auth"
    """The account pauses until its key is replaced; the queue is kept."""
    OFFLINE = "offline"
    """The file is on tape: wait and poll; no slot is used and no attempt is counted."""
    CORRUPT = "corrupt"
    """Delete the bytes and fetch them again; the attempt counts."""
    PAUSED = "paused"
    """The source is paused: wait until it is resumed; no attempt is counted."""
    LOCAL = "local"
    """This worker cannot write: other workers take the download."""
    FINAL = "final"
    """A retry cannot help."""


@dataclass_transform(eq_default=False)
class GeodesTasksError(Exception):
    """Base of every error that this package raises on purpose.

    A subclass becomes a dataclass by itself; its fields are the values of the error.
    """

    reaction: Reaction = Reaction.FINAL
    remedy: str = ""
    """What to do now, in one line and in the words of a shell, as the ledger keeps it."""
    template: ClassVar[str] = ""
    """The text of the error, with its fields in braces."""

    def __init_subclass__(cls) -> None:
        """Make a dataclass of the subclass."""
        # Not frozen: contextlib sets __traceback__, add_note sets __notes__, and unpickling sets
        # __dict__; each of them fails on a frozen exception.
        dataclass(eq=False, repr=False)(cls)

    def __post_init__(self) -> None:
        """Set ``args`` to the values of all fields, in order, and note what to do."""
        # BaseException.__reduce__ and Celery's JSON keep the class and args, and call the class
        # with them again. Python itself fills args with the positional arguments only: defaults
        # and keyword arguments would be lost.
        if is_dataclass(self):
            self.args = tuple(getattr(self, each.name) for each in fields(self))
        if self.remedy:
            # Python prints the notes below the text of an uncaught error (PEP 678).
            self.add_note(self.hint)

    @property
    def hint(self) -> str:
        """Return what to do in one line: options and commands at a shell, calls in Python."""
        return for_reader(self.remedy)

    def __str__(self) -> str:
        """Return the template filled with the values; without one, the values."""
        if not self.template:
            return " ".join(map(str, self.args))
        return self.template.format(**vars(self))
