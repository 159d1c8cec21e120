"""A selection that fits no item is one mistake of the user, found before anything is queued."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client.item_like import check_items
from geodes_tasks.client.planning import Selection, folder, plan
from geodes_tasks.errors import ConfigError
from tests.unit.client.test_enqueue_admission import item_of

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger


@pytest.mark.parametrize(
    ("selected", "problem", "example"),
    [
        (
            {"include": ("*.nope",)},
            "include: .*0a:V1: no asset is left.*keys: item-0a.zip",
            "include=[",
        ),
        ({"exclude": ("*",)}, "exclude: .*no asset is left", "include=["),
        ({"layout": "{nofield}/{title}"}, "layout: unknown field {nofield}", "layout="),
    ],
)
def test_a_selection_that_fits_no_item(
    selected: dict[str, Any], problem: str, example: str, tmp_path: Path
) -> None:
    """A misspelt glob or field is one error that names what there is, not one for each item."""
    items = [item_of(f"item-{number}a") for number in range(300)]

    with pytest.raises(ConfigError, match=problem) as caught:
        next(plan(items, Selection(tmp_path, **selected)))

    assert example in caught.value.hint


def test_a_selection_that_fits_one_item(tmp_path: Path) -> None:
    """The others are refused one by one, in order, as soon as one item fits."""
    items = [item_of("first"), item_of("second"), item_of("third")]

    plans = list(plan(items, Selection(tmp_path, include=("second*",))))

    assert [len(one.requests) for one in plans] == [0, 1, 0]
    assert [len(one.refusals) for one in plans] == [1, 0, 1]


def test_items_without_data_are_no_mistake_of_the_selection(tmp_path: Path) -> None:
    """Without globs, an item that has no assets is refused as before."""
    (planned,) = plan([item_of("a", assets={})], Selection(tmp_path))

    assert len(planned.refusals) == 1


def test_half_a_character_harms_no_other_item(tmp_path: Path, fake_ledger: Ledger) -> None:
    """JSON can write one, and a ledger cannot keep it: the item is refused, and named."""
    hostile = item_of("a", assets={"k\ud800": {"href": "https://h/a.zip", "roles": ["data"]}})
    hostile |= {"collection": "C\ud800"}

    (planned,) = plan([hostile], Selection(tmp_path))
    fake_ledger.admission.refuse("b", "acc", planned.refusals)

    (record,) = fake_ledger.reading.records("b")
    assert (record.asset_key, record.collection) == ("k\\ud800", "C\\ud800")


@pytest.mark.parametrize("name", ["include", "exclude", "members"])
def test_one_text_is_no_list_of_globs(name: str, tmp_path: Path) -> None:
    """The letters of a text, of which `*` is one, are not taken for globs."""
    with pytest.raises(TypeError, match=rf"{name} is a list, such as \['\*.zip'\]"):
        Selection(tmp_path, **{name: "*.zip"})  # type: ignore[arg-type] # the mistake


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"include": 5}, "include is a list of texts, and has 5"),
        ({"exclude": ["a", None]}, "exclude is a list of texts, and has None"),
        ({"members": [b"x"]}, "members is a list of texts, and has b'x'"),
        ({"layout": None}, "layout is text, not None"),
        ({"layout": Path("{title}")}, "layout is text, not PosixPath"),
    ],
)
def test_an_argument_of_another_type_is_named(
    given: dict[str, Any], named: str, tmp_path: Path
) -> None:
    """The message has the name of the argument and the value."""
    with pytest.raises(TypeError, match=re.escape(named)):
        Selection(tmp_path, **given)


def test_globs_of_a_generator_fit_each_item(tmp_path: Path) -> None:
    """They are read once, and not by the first item alone."""
    items = [item_of(name) for name in "ab"]
    selection = Selection(tmp_path, include=(glob for glob in ["*"]))  # type: ignore[arg-type]

    assert [len(one.requests) for one in plan(items, selection)] == [1, 1]


@pytest.mark.parametrize("given", [5, b"a", ["a"], None])
def test_a_folder_of_another_type_is_named(given: Any) -> None:
    """The message has the value."""
    with pytest.raises(TypeError, match=re.escape(f"text or a Path, not {given!r}")):
        folder(given)


@pytest.mark.parametrize(
    "items",
    [
        None, 42, b"x", bytearray(b"x"), object(), dict, [None], [{}, 42], (object(),),
        io.StringIO("{}"), [io.BytesIO(b"{}")],
    ],
)  # fmt: skip
def test_what_cannot_hold_items_is_refused_at_the_call(items: object) -> None:
    """A mistake of the caller never becomes a failed download."""
    with pytest.raises(TypeError, match="items are STAC items or the name of a file, not"):
        check_items(items)


@pytest.mark.parametrize("items", ["", [""]])
def test_an_empty_name_is_no_file(items: object) -> None:
    """An unset variable is not taken for the current folder."""
    with pytest.raises(ValueError, match="this name is empty"):
        check_items(items)


class Table:
    """As pandas: to compare one with a text is an error, and it has a dictionary."""

    def __eq__(self, other: object) -> Any:
        """Refuse as a data frame does."""
        raise ValueError("the truth value of a DataFrame is ambiguous")

    __hash__ = None  # type: ignore[assignment] # as a data frame has none

    def to_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}


@pytest.mark.parametrize("items", [{}, [], "a.json", [{"id": "a"}], iter([None]), Table()])
def test_what_can_hold_items_is_taken(items: object) -> None:
    """JSON, names of files, lists of them, tables and generators are read later."""
    check_items(items)
