"""A file goes inside the download folder under a harmless name, or nowhere."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geodes_tasks.errors import ConfigError, HostileNameError
from geodes_tasks.model.asset import Asset
from geodes_tasks.model.checksum import Checksum
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT, plan

FOLDER = Path("/data/downloads")
MD5 = "86f828c4c7e921615d1cd0476604f780"
FIELDS = {
    "collection": "PEPS_S2_L1C",
    "item": "S2A_X",
    "item_id": "URN_X",
    "year": "2025",
    "month": "04",
    "grid:code": "T14ULD",
    "checksum": MD5,
    "proj:bbox": "",
}


def asset(title: str = "a.zip") -> Asset:
    """Build an asset of a title."""
    return Asset(
        item_id="URN:X",
        collection="PEPS_S2_L1C",
        key="k/a.zip",
        title=title,
        hrefs={},
        checksum=Checksum("md5", MD5),
    )


def planned(title: str, layout: str = DEFAULT_LAYOUT) -> str:
    """Give the final path within the download folder."""
    return str(Path(filled(title, layout)).relative_to(FOLDER))


def filled(title: str, layout: str, **fields: str) -> str:
    """Give the final path in the download folder, with a layout of known fields."""
    return plan(asset(title), FOLDER, layout, lambda: FIELDS | {"title": title} | fields)


@pytest.mark.parametrize(
    "title",
    [
        "S2A_MSIL1C_20250402T175741.zip",
        "2025/04/02/S2A/x_quicklook.jpg",
        "données été 2025.zip",
        "données.zip",
        "衛星画像.zip",
        "..a..b",
        ".hidden",
        "a~b#c%2e%2e.zip",
        "x" * 251 + ".zip",
        "CONSOLE.zip",
        "geodes-tasks",
        "d/" * 99 + "f.zip",
    ],
)
def test_harmless_title_is_kept(title: str) -> None:
    """A harmless title is the path, sub-folders and letters of any script included."""
    assert planned(title) == title


@pytest.mark.parametrize(
    ("title", "problem"),
    [
        ("", "has an empty part"),
        (" ", "has an empty part"),
        ("a//b", "has an empty part"),
        ("a/", "has an empty part"),
        ("\u200b", "has an empty part"),
        ("/etc/passwd", "absolute path"),
        ("//host/share", "absolute path"),
        ("..", "another folder"),
        ("../x", "another folder"),
        ("a/../../x", "another folder"),
        ("./x", "another folder"),
        ("a/.", "another folder"),
        (".\u200b./x", "another folder"),
        (".. /x", "another folder"),
        ("a\\b", "path separator"),
        ("..\\x", "path separator"),
        ("C:\\x", "path separator"),
        ("a\0.zip", "control characters"),
        ("a\n.zip", "control characters"),
        ("a\x7f", "control characters"),
        ("a\x85b", "control characters"),
        ("a\u2028b", "control characters"),
        ("a\ud800", "not Unicode text"),
        ("a\u202egpj.zip", "reading direction"),
        ("a\u2067b", "reading direction"),
        ("a\u200fb", "reading direction"),
        ("..\uff0fetc", "reads as '../etc' elsewhere"),
        ("a\uff3cb", "elsewhere"),
        ("\u2100", "elsewhere"),
        ("\u2024\u2024", "elsewhere"),
        ("\u2025/x", "elsewhere"),
        ("a\u2215b", "look like a path separator"),
        ("a\u2044b", "look like a path separator"),
        (".geodes-tasks", "folder of part files"),
        (".geodes-tasks/x.part", "folder of part files"),
        ("a/.Geodes-TASKS/x", "folder of part files"),
        (".geodes\u200d-tasks/x", "folder of part files"),
        ("\uff0egeodes-tasks/x", "folder of part files"),
        ("\uff0e\uff47eodes-tasks. ", "folder of part files"),
        ("a.zip ", "space or a dot"),
        ("a.zip.", "space or a dot"),
        ("a./b", "space or a dot"),
        ("a\u00a0", "space or a dot"),
        ("a\u2026", "space or a dot"),
        ("NUL", "device on Windows"),
        ("con.zip", "device on Windows"),
        ("COM1.tar.gz", "device on Windows"),
        ("a/lpt9", "device on Windows"),
        ("COM\u00b9", "device on Windows"),
        ("aux .zip", "device on Windows"),
        ("\uff23ON", "device on Windows"),
        ("x" * 256, "256 bytes, the most is 255"),
        ("é" * 128, "256 bytes"),
        ("/".join(["x" * 200] * 21), "4220 characters, the most is 4095"),
        ("/".join(["x" * 250] * 16 + ["x" * 67]), "whole path has 4099 bytes"),
        ("d/" * 100 + "f.zip", "101 parts, the most is 100"),
    ],
)
def test_hostile_title_is_refused(title: str, problem: str) -> None:
    """Each hostile title is refused with its item, its reason and a remedy, on one line."""
    with pytest.raises(HostileNameError, match=problem) as caught:
        planned(title)

    assert str(caught.value).startswith("S2A_X: ")
    assert str(caught.value).isprintable()
    assert "layout=" in caught.value.hint


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        ("{collection}/{item}/{title}", "PEPS_S2_L1C/S2A_X/2025_04_x.jpg"),
        ("{year}/{month}/{grid:code}/{title}", "2025/04/T14ULD/2025_04_x.jpg"),
        ("{item_id}-{checksum}.zip", f"URN_X-{MD5}.zip"),
        ("all/{title}", "all/2025_04_x.jpg"),
        ("{title}.tmp", "2025_04_x.jpg.tmp"),
    ],
)
def test_layout(layout: str, expected: str) -> None:
    """Only the slashes of the layout make folders; those of a value become underscores."""
    assert planned("2025/04/x.jpg", layout) == expected


def test_value_brings_no_separators() -> None:
    """A hostile value is one flat name under a layout, or refused."""
    assert planned("/etc\\passwd", "{collection}/{title}") == "PEPS_S2_L1C/_etc_passwd"
    assert planned("../../x", "{collection}/{title}") == "PEPS_S2_L1C/.._.._x"


def test_value_that_is_a_parent_folder() -> None:
    """A field of two dots does not climb."""
    with pytest.raises(HostileNameError, match="another folder"):
        planned("..", "{collection}/{title}")


def test_values_are_not_templates() -> None:
    """Braces in a value are plain characters."""
    assert planned("{collection}", "x-{title}") == "x-{collection}"
    assert planned("{year}.zip") == "{year}.zip"


def test_unknown_field() -> None:
    """A field that the item does not have is refused, and the known ones are listed."""
    with pytest.raises(ConfigError, match=r"unknown field \{tile\}; .*grid:code.*title"):
        planned("a.zip", "{tile}/{title}")


def test_field_without_value() -> None:
    """An item that is silent on a field of the layout is refused alone, not the whole run."""
    with pytest.raises(HostileNameError, match=r"has no value for \{proj:bbox\}"):
        planned("a.zip", "{proj:bbox}/{title}")


@pytest.mark.parametrize(
    "layout", ["", "/abs/{title}", "../{title}", "{collection}//{title}", "a/./{title}", "{title}/"]
)
def test_layout_that_leaves_the_folder(layout: str) -> None:
    """A layout is a path inside the download folder."""
    with pytest.raises(ConfigError, match="inside the download folder"):
        planned("a.zip", layout)


@pytest.mark.parametrize("layout", ["{title", "title}", "{{title}}", "{a}{"])
def test_layout_of_broken_braces(layout: str) -> None:
    """A brace without its partner is said, not written into file names."""
    with pytest.raises(ConfigError, match="brace"):
        planned("a.zip", layout)


def test_a_name_that_this_python_cannot_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the C locale without UTF-8 mode a name with an accent is refused, with what helps."""
    monkeypatch.setattr(os, "fsencode", lambda text: text.encode("ascii"))

    with pytest.raises(HostileNameError, match="PYTHONUTF8=1"):
        planned("données.zip")


def test_relative_folder_is_made_absolute(monkeypatch: Any, tmp_path: Path) -> None:
    """The final path does not depend on a later change of folder, and follows no link."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.chdir(tmp_path)

    assert Path(plan(asset(), Path("link"))) == tmp_path / "link" / "a.zip"
    assert Path(plan(asset(), Path())) == tmp_path / "a.zip"


NASTY = st.sampled_from(
    [
        "..",
        ".",
        "/",
        "\\",
        "\0",
        "\uff0f",
        "\u2024",
        "\u2025",
        " ",
        ".geodes-tasks",
        "NUL",
        "a",
        "\ud800",
    ]
)
NAMES = st.lists(NASTY | st.text(max_size=5), max_size=6).map("".join) | st.text()


@given(NAMES, NAMES, st.sampled_from([DEFAULT_LAYOUT, "{collection}/{title}", "{title}{title}"]))
def test_every_path_is_inside_the_folder(title: str, collection: str, layout: str) -> None:
    """Whatever the title and the values, the path is inside the folder or the name is refused."""
    try:
        final = Path(filled(title, layout, collection=collection))
    except HostileNameError as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right here
        return

    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        path = unicodedata.normalize(form, str(final))
        assert os.path.normpath(path) == path
        assert path.startswith(f"{FOLDER}/")
    assert not {".geodes-tasks", "..", "."} & set(final.parts)
    assert all(len(part.encode()) <= 255 for part in final.parts)
    assert "\0" not in str(final)


@given(st.text(), NAMES)
def test_any_layout_is_inside_the_folder_or_refused(layout: str, title: str) -> None:
    """Whatever the layout, the path is inside the folder or one of the two errors says why."""
    try:
        final = Path(filled(title, layout))
    except (HostileNameError, ConfigError) as error:
        assert str(error).isprintable()  # noqa: PT017 - both ways are right here
    else:
        assert os.path.normpath(final).startswith(f"{FOLDER}/")
