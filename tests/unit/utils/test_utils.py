"""pygeodes' import paths: the same names at the same places, with the same behaviour."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime, timedelta, timezone

import pytest

import geodes_tasks
import geodes_tasks.utils.query
from geodes_tasks.utils.datetime_utils import (
    complete_datetime_from_str,
    datetime_to_str,
    str_to_datetime,
)

PYGEODES = {
    "config": ("Config", "notebook_environment"),
    "datetime_utils": ("complete_datetime_from_str", "datetime_to_str", "str_to_datetime"),
    "exceptions": (
        "DataAssetMissingException",
        "InvalidChecksumException",
        "InvalidURLException",
        "MissingConfParamException",
        "RequiresApiKeyException",
        "TooManyResultsException",
    ),
    "formatting": (
        "export_dataframe",
        "format_collections",
        "format_items",
        "get_from_dico_path",
        "load_dataframe",
    ),
    "profile": ("Download", "DownloadQueue", "Profile"),
    "query": ("get_requestable_args",),
    "stac": ("Asset", "Collection", "Item"),
}


@pytest.mark.parametrize("module", PYGEODES)
def test_the_names_are_where_pygeodes_has_them(module: str) -> None:
    """A script finds each name with nothing but the package's name replaced."""
    ours = importlib.import_module(f"geodes_tasks.utils.{module}")

    assert sorted(ours.__all__) == sorted(PYGEODES[module])
    assert all(callable(getattr(ours, name)) for name in PYGEODES[module])


@pytest.mark.parametrize("module", PYGEODES)
def test_pygeodes_has_the_names(module: str) -> None:
    """No name is invented: pygeodes itself has each of them."""
    pytest.importorskip("pygeodes")
    theirs = importlib.import_module(f"pygeodes.utils.{module}")

    assert [name for name in PYGEODES[module] if not hasattr(theirs, name)] == []


def test_the_names_are_those_of_the_package() -> None:
    """Both spellings of an import are one class."""
    profile = importlib.import_module("geodes_tasks.utils.profile")
    stac = importlib.import_module("geodes_tasks.utils.stac")
    geodes = importlib.import_module("geodes_tasks.geodes")
    config = importlib.import_module("geodes_tasks.utils.config")

    assert profile.DownloadQueue is geodes_tasks.DownloadQueue
    assert profile.Profile is geodes_tasks.Profile
    assert stac.Item is geodes_tasks.Item
    assert config.Config is geodes.Config is geodes_tasks.Config
    assert geodes.Geodes is geodes_tasks.Geodes
    assert geodes.Item is geodes_tasks.Item


def test_every_attribute_that_pygeodes_lists_is_listed() -> None:
    """A script that looks a property up finds name and type as pygeodes writes them."""
    theirs = pytest.importorskip("pygeodes.utils.query").get_requestable_args()

    ours = geodes_tasks.utils.query.get_requestable_args()

    assert ours["version"] == theirs["version"]
    assert set(ours["attributes"]) - set(theirs["attributes"]) == {
        "endpoint_url (STRING)",
        "identifier (STRING)",
    }
    assert set(theirs["attributes"]) <= set(ours["attributes"])


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("2023-09-23", "2023-09-23T00:00:00.000000Z"),
        ("2023-09-23T12", "2023-09-23T12:00:00.000000Z"),
        ("2023-09-23T12:30", "2023-09-23T12:30:00.000000Z"),
        ("2023-09-23T12:30:05Z", "2023-09-23T12:30:05.000000Z"),
        ("2023-09-23T12:30:05.25Z", "2023-09-23T12:30:05.250000Z"),
    ],
)
def test_a_date_is_completed(text: str, full: str) -> None:
    """Dates and shortened times become the text that pygeodes makes of them."""
    assert complete_datetime_from_str(text) == full


@pytest.mark.parametrize("text", ["", "yesterday", "2023-13-01", "23/09/2023"])
def test_a_text_without_a_time_is_refused(text: str) -> None:
    """Text in another format is an error that lists the formats."""
    with pytest.raises(ValueError, match="%Y-%m-%d"):
        complete_datetime_from_str(text)


def test_a_time_survives_text() -> None:
    """A time of another zone is written in UTC and read back as the same moment."""
    paris = datetime(2023, 9, 23, 2, 30, tzinfo=timezone(timedelta(hours=2)))

    assert datetime_to_str(paris) == "2023-09-23T00:30:00.000000Z"
    assert str_to_datetime(datetime_to_str(paris)) == datetime(2023, 9, 23, 0, 30)  # noqa: DTZ001
    assert datetime_to_str(datetime(2023, 9, 23)) == datetime_to_str(  # noqa: DTZ001 - naive
        datetime(2023, 9, 23, tzinfo=UTC)
    )
