"""A selection that fits no item is one mistake of the user, found before anything is queued."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from geodes_tasks.client.item_like import check_items
from geodes_tasks.client.planning import Selection, plan
from geodes_tasks.errors import ConfigError
from tests.unit.client.test_enqueue_admission import item_of

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("items", [None, 42, b"x", object(), [None], [{}, 42], (object(),)])
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
