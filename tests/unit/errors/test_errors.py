"""Every error survives its journey through queues, and tells the user what to do."""

from __future__ import annotations

import ast
import contextlib
import copy
import inspect
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.backends.base import Backend

from geodes_tasks import errors
from geodes_tasks.errors import GeodesTasksError, Reaction
from geodes_tasks.model.results import ErrorInfo
from tests.unit.test_layers import SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator

VALUES: dict[str, Any] = {
    "str": "https://h/a",
    "int": 404,
    "float": 2.5,
    "bool": True,
}
CLASSES = [
    found
    for _, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, GeodesTasksError)
    and found not in {GeodesTasksError, *GeodesTasksError.__subclasses__()}
]
"""Every class that is raised; the others group them."""


def example(kind: type[GeodesTasksError]) -> GeodesTasksError:
    """Return an error with a value of the right type for each parameter."""
    return kind(*(VALUES[str(each.annotation).split(" |")[0]] for each in parameters(kind)))


def parameters(kind: type[GeodesTasksError]) -> list[inspect.Parameter]:
    """Return the parameters of an error class, one for each of its values."""
    return list(inspect.signature(kind).parameters.values())


@pytest.fixture(params=CLASSES, ids=lambda kind: kind.__name__)
def error(request: pytest.FixtureRequest) -> GeodesTasksError:
    """Return one error of each class."""
    return example(request.param)


def assert_same(again: BaseException, error: GeodesTasksError) -> None:
    """Assert that an error has the class, values, text and hint of another."""
    assert type(again) is type(error)
    assert again.args == error.args
    assert vars(again) == vars(error)
    assert (str(again), again.hint) == (str(error), error.hint)


def test_every_class_is_exported() -> None:
    """All errors of the package are in ``geodes_tasks.errors``, under one name each."""
    known = {name for name in errors.__all__ if name != "Reaction"}

    defined = {
        node.name
        for module, path in SOURCES.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and known.intersection(map(ast.unparse, node.bases))
        and not module.startswith("geodes_tasks.errors.")
    }

    assert defined == set()
    assert set(CLASSES) < {getattr(errors, name) for name in known}
    assert len(CLASSES) > 50


def test_each_class_is_in_one_group(error: GeodesTasksError) -> None:
    """A user who catches the five groups catches every error, each once."""
    groups = (
        errors.UsageError,
        errors.AccountError,
        errors.FetchError,
        errors.DownloadError,
        errors.LedgerError,
    )

    assert sum(isinstance(error, group) for group in groups) == 1


def test_pickle(error: GeodesTasksError) -> None:
    """Pickle returns the same class, values, text and hint, in every protocol."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert_same(pickle.loads(pickle.dumps(error, protocol)), error)  # noqa: S301 - our own


def test_copy(error: GeodesTasksError) -> None:
    """A copy, shallow or deep, has the same class, values, text and hint."""
    assert_same(copy.copy(error), error)
    assert_same(copy.deepcopy(error), error)


def test_keyword_arguments_survive(error: GeodesTasksError) -> None:
    """Values given by name are kept like positional ones."""
    names = [each.name for each in parameters(type(error))]
    named = type(error)(**dict(zip(names, error.args, strict=True)))

    assert_same(pickle.loads(pickle.dumps(named)), error)  # noqa: S301 - our own


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_defaults_survive(kind: type[GeodesTasksError]) -> None:
    """Values that were left out reach ``args`` as their defaults."""
    needed = [each for each in parameters(kind) if each.default is each.empty]
    error = kind(*(VALUES[str(each.annotation).split(" |")[0]] for each in needed))

    assert len(error.args) == len(parameters(kind))
    assert_same(pickle.loads(pickle.dumps(error)), error)  # noqa: S301 - our own


def test_celery_json(error: GeodesTasksError) -> None:
    """Celery's result backend returns the same error, with JSON as its serializer."""
    with Celery(set_as_current=False, broker="memory://") as app:
        backend: Any = Backend(app, serializer="json")
        text = backend.encode(backend.prepare_exception(error))

        again = backend.exception_to_python(backend.decode(text))

    assert isinstance(text, str)
    assert_same(again, error)


@contextlib.contextmanager
def passing() -> Iterator[None]:
    """Hand an error on, as every context manager does."""
    yield


def test_leaves_a_context_manager(error: GeodesTasksError) -> None:
    """An error that passes a context manager is still that error, with its traceback and cause."""
    cause = KeyError("cause")

    with pytest.raises(type(error)) as caught, passing():
        raise error from cause

    assert caught.value is error
    assert error.__cause__ is cause
    assert error.__traceback__ is not None


def test_takes_a_note(error: GeodesTasksError) -> None:
    """A note is printed below the error, and survives pickle."""
    error.add_note("on host a")

    assert "on host a\n" in traceback.format_exception(error)
    assert_same(pickle.loads(pickle.dumps(error)), error)  # noqa: S301 - our own


def test_can_be_a_key(error: GeodesTasksError) -> None:
    """An error equals only itself, as other exceptions do."""
    assert {error: 1}[error] == 1
    assert example(type(error)) != error


def test_message_and_hint_are_one_line(error: GeodesTasksError) -> None:
    """The text and the hint are one printable line each."""
    assert all(str(value) in str(error) for value in error.args[:1])
    assert str(error).isprintable()
    assert error.hint.isprintable()
    # The end of an attempt is for the other workers: the user has nothing to do.
    assert error.hint or isinstance(error, errors.AttemptEndedError)


def test_reaction(error: GeodesTasksError) -> None:
    """Every error has a reaction of the workers."""
    assert isinstance(error.reaction, Reaction)


def test_docstring(error: GeodesTasksError) -> None:
    """Every class has a sentence of its own."""
    assert type(error).__doc__


def test_as_data(error: GeodesTasksError) -> None:
    """An error as data has its class name, text and hint."""
    assert ErrorInfo.of(error) == ErrorInfo(type(error).__name__, str(error), error.hint)


def test_base() -> None:
    """The base, which is caught but not raised, has its values for text."""
    assert str(GeodesTasksError("a", 2)) == "a 2"


def test_bad_input_is_final() -> None:
    """An error in an item or a setting is not retried."""
    for kind in (errors.ItemError, errors.HostileNameError, errors.ConfigError, errors.SourceError):
        assert kind.reaction is Reaction.FINAL


def test_own_hint_of_a_setting() -> None:
    """The error of a setting keeps the hint of its caller, or names the setting."""
    assert errors.ConfigError("X", "bad", "Do this.").hint == "Do this."
    assert "X" in errors.ConfigError("X", "bad").hint


def test_throttled_without_wait() -> None:
    """The text shows that a server named no wait."""
    assert "no wait named" in str(errors.ThrottledError("https://h", None))


def test_hints_name_the_values() -> None:
    """A hint names the package to install, the source to resume, the names that were meant."""
    extra = errors.MissingPackageError("pandas", "x").hint
    assert extra == "Install it: pip install 'geodes-tasks[notebook]'"
    assert errors.MissingPackageError("folium", "x").hint == "Install it: pip install folium"
    assert "resume s3" in errors.SourcePausedError("a.zip", "s3").remedy
    assert errors.UnknownBatchError("aprl", "april").hint == "Did you mean april?"
    assert errors.UnknownBatchError("aprl").remedy == errors.UnknownBatchError.remedy
