"""Scripts are sent with only the library functions that they use, and each of them runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from geodes_tasks.ledger import Ledger, script_loader
from geodes_tasks.ledger.script_loader import ScriptError, assembled, library, script_text
from tests import lua

SCRIPTS = Path(script_loader.__file__).parent / "scripts"
NAMES = script_loader.script_names()
MOST_LINES = 60

ARGUMENTS = {
    "admit_downloads": ["b", "a", "1"],
    "cancel_downloads": [""],
    "claim_download": ["x", "w", "60", "4"],
    "end_left_overs": ["x"],
    "end_damaged_download": ["x", "1"],
    "finish_download": ["x", "1", "{}", "1", "1", "0", "0"],
    "forget_batch": ["b"],
    "pause_account": ["a", "why", "1", "", ""],
    "end_attempt": ["x", "1", "{}", "1", "1", "0", "0"],
    "read_portal_pause": ["a"],
    "refuse_downloads": ["b", "a", "[]"],
    "release_downloads": ["", "1", "1", "0", "0"],
    "remove_forgotten": ["b:1", "200", "1.5"],
    "renew_leases": ["60", "x", "1", "-1", "", "0", "c"],
    "requeue_downloads": ["due", "10"],
    "rejoin_rings": ["b"],
    "spend_quota": ["a", "1", "60", "r"],
}
"""What each script takes for a ledger without records; scripts that are not here take nothing."""


@pytest.mark.parametrize("name", NAMES)
def test_a_script_runs_with_what_it_is_sent_with(fake_ledger: Ledger, name: str) -> None:
    """On an empty ledger each script comes to its end: no name in it is undefined."""
    fake_ledger.connection.run(name, *ARGUMENTS.get(name, []))


@pytest.mark.parametrize("name", NAMES)
def test_a_script_has_only_the_definitions_that_it_uses(name: str) -> None:
    """Each definition in front of a script is named again behind it."""
    text = script_loader._TEXT_OR_COMMENT.sub("", script_text(name))
    defined = re.findall(r"^local (?:function )?(\w+(?:, \w+)*)", text, re.MULTILINE)

    for names in defined:
        used = [len(re.findall(rf"(?<![\w.:]){one}\b", text)) > 1 for one in names.split(", ")]
        assert any(used), names


def test_a_renewal_is_sent_with_little() -> None:
    """The script that runs most often has no part of the queue, of states and of accounts."""
    text = script_text("renew_leases")

    assert "local function call(" in text
    assert len(re.findall(r"^local function ", text, re.MULTILINE)) < 14
    assert "release" not in text


def test_definitions_come_before_their_use_in_one_order() -> None:
    """What a definition uses comes first, each once; another process sends the same text."""
    text = assembled("move(d, 'RETRY')")
    code = "from geodes_tasks.ledger.script_loader import assembled;"
    code += "print(assembled(\"move(d, 'RETRY')\"), end='')"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert text.index("local function add(") < text.index("local function count_state(")
    assert text.index("local function count_state(") < text.index("local function move(")
    assert text.count("local function call(") == 1
    assert other.stdout == text


def test_a_circle_in_the_library_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lua would find the second function undefined when it runs."""
    circle = {
        "one": "local function one() two() end\n",
        "two": "local function two() one() end\n",
    }
    monkeypatch.setattr(script_loader, "library", lambda: circle)

    with pytest.raises(ScriptError, match="uses itself"):
        assembled("one()")


@pytest.mark.parametrize("name", NAMES)
def test_a_script_can_be_read(name: str) -> None:
    """Its name is a verb and its object, its head has the arguments and the answer, it is short."""
    lines = (SCRIPTS / f"{name}.lua").read_text().splitlines()
    head = [line for line in lines if line.startswith("--")]

    assert "_" in name
    assert len(lines) <= MOST_LINES
    assert name not in ARGUMENTS or any("ARGV: " in line for line in head)
    taken = [line for line in lines if re.search(r"ARGV\[\d", line)]
    assert all(re.match(r"local .* = |  (tonumber\(|)ARGV", line) for line in taken)


def test_every_definition_of_the_library_is_sent() -> None:
    """What no script uses is not in the library."""
    texts = [script_text(name) for name in NAMES]

    assert [name for name, lua in library().items() if not any(lua in text for text in texts)] == []


@pytest.mark.skipif(
    shutil.which("luacheck") is None, reason="luacheck (lua-check) is not installed"
)
def test_luacheck_finds_nothing(tmp_path: Path) -> None:
    """No undefined, unused or shadowed name in any script, each as Redis gets it."""
    done = lua.check(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(
    shutil.which("luacheck") is None, reason="luacheck (lua-check) is not installed"
)
def test_luacheck_finds_a_name_that_is_not_defined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt function of the library is found before a script runs."""
    monkeypatch.setattr(lua, "script_text", lambda _: "return numbr(ARGV[1])\n")

    done = lua.check(tmp_path)

    assert done.returncode != 0
    assert "numbr" in done.stdout
