"""What the options of a search add to each other, and where its output goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.cli import search
from geodes_tasks.errors import ConfigError, SearchError


def sent(query: dict[str, Any], **options: Any) -> Any:
    """Return the query that is sent for ``--query`` and other options."""
    found = search.search_of(query=json.dumps(query), **options)
    assert found is not None
    (part,) = found.parts()
    return part["query"]


def test_options_add_to_the_query() -> None:
    """Conditions of ``--query`` on the same property stay, plain values and former names too."""
    assert sent({"eo:cloud_cover": {"gte": 5}}, cloud_cover=10) == {
        "eo:cloud_cover": {"gte": 5, "lte": 10}
    }
    assert sent({"spaceborne:cloudCover": {"gte": 5}}, cloud_cover=10) == {
        "eo:cloud_cover": {"gte": 5, "lte": 10}
    }
    assert sent({"grid:code": "T31TCJ", "platform": "S2A"}, tile=["31TCH"]) == {
        "grid:code": {"eq": "T31TCJ", "in": ["T31TCH"]},
        "platform": {"eq": "S2A"},
    }


@pytest.mark.parametrize(
    ("query", "options", "problem"),
    [
        ({"eo:cloud_cover": {"lte": 5}}, {"cloud_cover": 10}, "'lte' of eo:cloud_cover"),
        ({"spaceborne:cloudCover": {"lte": 5}}, {"cloud_cover": 10}, "and so has --cloud-cover"),
        ({"grid:code": ["T31TCJ"]}, {"tile": ["31TCH"]}, "'in' of grid:code, and so has --tile"),
    ],
)
def test_one_condition_given_twice_is_refused(
    query: dict[str, Any], options: dict[str, Any], problem: str
) -> None:
    """Neither of two limits of the same kind is dropped without a word."""
    with pytest.raises(SearchError, match=problem):
        sent(query, **options)


def test_a_folder_as_output_is_bad_usage(tmp_path: Path) -> None:
    """``-o .`` ends with one line, not with a traceback."""
    for name in (Path(), tmp_path):
        with pytest.raises(ConfigError, match="Is a directory"):
            search._write(iter(()), name)
