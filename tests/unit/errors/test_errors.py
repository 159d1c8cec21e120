"""Every error survives its journey through queues, and tells the user what to do."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
from typing import Any

import pytest

from geodes_tasks import errors
from geodes_tasks.errors import GeodesTasksError, Reaction
from geodes_tasks.model.results import ErrorInfo

VALUES: dict[str, Any] = {
    "str": "https://h/a",
    "int": 404,
    "float": 2.5,
    "bool": True,
}
CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, GeodesTasksError) and found is not GeodesTasksError
]


def example(kind: type[GeodesTasksError]) -> GeodesTasksError:
    """Make an error with a value of the right type for each parameter."""
    return kind(*(VALUES[str(each.annotation).split(" |")[0]] for each in parameters(kind)))


def parameters(kind: type[GeodesTasksError]) -> list[inspect.Parameter]:
    """Give the parameters of an error class, one for each of its values."""
    return list(inspect.signature(kind).parameters.values())


@pytest.fixture(params=CLASSES, ids=lambda kind: kind.__name__)
def error(request: pytest.FixtureRequest) -> GeodesTasksError:
    """Give one error of each class."""
    return example(request.param)


def test_all_classes_are_seen() -> None:
    """The list is read from the module, and is not short."""
    assert len(CLASSES) > 20


def test_pickle(error: GeodesTasksError) -> None:
    """Pickle gives the same class, values, text and hint."""
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):  # noqa: S301 - our own
        assert type(again) is type(error)
        assert again.args == error.args
        assert vars(again) == vars(error)
        assert (str(again), again.hint) == (str(error), error.hint)


def test_positional_values(error: GeodesTasksError) -> None:
    """The class and its values make the error again, which is all that Celery keeps."""
    values = json.loads(json.dumps(error.args))

    again = type(error)(*values)

    assert vars(again) == vars(error)
    assert str(again) == str(error)


def test_values_are_passed_unchanged(error: GeodesTasksError) -> None:
    """``args`` has one value for each parameter, in order."""
    assert len(error.args) == len(parameters(type(error)))


def test_message_and_hint_are_one_line(error: GeodesTasksError) -> None:
    """A user is told what failed and what to do, each in one printable line."""
    assert str(error.args[0]) in str(error)
    assert str(error).isprintable()
    assert error.hint.isprintable()
    # The end of an attempt is for the fleet: somebody else has decided, nobody has to act.
    assert error.hint or isinstance(error, errors.AttemptEndedError)


def test_reaction(error: GeodesTasksError) -> None:
    """Every error says what the fleet does about it."""
    assert isinstance(error.reaction, Reaction)


def test_docstring(error: GeodesTasksError) -> None:
    """Every class has a sentence of its own."""
    assert type(error).__doc__


def test_as_data(error: GeodesTasksError) -> None:
    """An error as data has its class name, text and hint."""
    assert ErrorInfo.of(error) == ErrorInfo(type(error).__name__, str(error), error.hint)


def test_base() -> None:
    """The base, which is caught but not raised, has the values it was given for text."""
    assert str(GeodesTasksError("a", 2)) == "a 2"


def test_bad_input_is_final() -> None:
    """What is wrong with an item or a setting is not tried again."""
    for kind in (errors.ItemError, errors.HostileNameError, errors.ConfigError, errors.SourceError):
        assert kind.reaction is Reaction.FINAL


def test_own_hint_of_a_setting() -> None:
    """A setting's error keeps the hint it was given, or names the setting."""
    assert errors.ConfigError("X", "bad", "Do this.").hint == "Do this."
    assert "X" in errors.ConfigError("X", "bad").hint


def test_throttled_without_wait() -> None:
    """A server that names no wait is quoted so."""
    assert "no wait named" in str(errors.ThrottledError("https://h", None))
