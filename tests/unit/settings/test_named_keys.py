"""Each account has its key in a variable of its own, or in a file that only its owner reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.account_keys import (
    loose_key_files,
    named_accounts,
    named_key,
    of_account,
)
from geodes_tasks.settings.config import load


def test_the_variable_of_an_account() -> None:
    """The variable has the name in capitals, with ``_`` for all other characters."""
    assert named_key("my-lab.1") == "GEODES_API_KEY_MY_LAB_1"


@pytest.mark.parametrize("name", ["team-a", "team_a", "TEAM.A", "Team-A"])
def test_names_with_one_variable_are_one_account(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that differ in case or punctuation have one key, so they have one account."""
    monkeypatch.setenv("GEODES_API_KEY", "of-team")
    settings = load(account=name)

    assert {of_account(settings, one).key() for one in ("TEAM_A", "team-a")} == {"of-team"}
    monkeypatch.setenv("GEODES_API_KEY_TEAM_A", "of-team")
    assert named_accounts(load(account=name)) == [name]


@pytest.mark.parametrize(
    "text", ["the-key\r\n", "\ufeffthe-key\n", '"the-key"\n', "'the-key'", ' "the-key" ']
)
def test_a_key_is_read_without_what_editors_add(
    text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Line ends, a byte order mark and quotes around a key are no part of it."""
    (tmp_path / "key").write_text(text, encoding="utf-8")
    monkeypatch.setenv("GEODES_API_KEY_FILE", str(tmp_path / "key"))
    from_file = load().key()
    monkeypatch.delenv("GEODES_API_KEY_FILE")
    monkeypatch.setenv("GEODES_API_KEY", text)

    assert (from_file, load().key()) == ("the-key", "the-key")


@pytest.mark.parametrize(
    ("account", "problem"), [("a b", "no name for an account"), ("profile", "ends in `file`")]
)
def test_a_name_without_a_variable(account: str, problem: str) -> None:
    """A name that cannot have a key of its own is refused."""
    with pytest.raises(ConfigError, match=f"GEODES_TASKS_ACCOUNT: .*{problem}"):
        named_key(account)


def test_each_account_has_its_own_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The key of one account is never used for another one."""
    (tmp_path / "key").write_text("of-project")
    monkeypatch.setenv("GEODES_API_KEY", "of-default")
    monkeypatch.setenv("GEODES_API_KEY_LAB", " of-lab\n")
    monkeypatch.setenv("GEODES_API_KEY_PROJECT_FILE", str(tmp_path / "key"))
    settings = load()

    keys = {name: of_account(settings, name).key() for name in named_accounts(settings)}

    assert keys == {"default": "of-default", "lab": "of-lab", "project": "of-project"}
    assert of_account(settings, "other").key() is None
    assert of_account(settings, "lab").key_variable == "GEODES_API_KEY_LAB"


def test_a_key_that_breaks_a_header(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key with white space inside is refused by the name of its variable, and not quoted."""
    monkeypatch.setenv("GEODES_API_KEY_LAB", "two words")
    settings = load()

    with pytest.raises(ConfigError, match=r"GEODES_API_KEY_LAB: .*white space") as caught:
        of_account(settings, "lab")

    assert "words" not in str(caught.value)


def test_key_files_that_others_can_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A key file is loose if its group or others can read it; a missing or empty file is not."""
    modes = {"own": 0o600, "group": 0o640, "others": 0o604, "empty": 0o644}
    for name, mode in modes.items():
        (tmp_path / name).write_text("" if name == "empty" else "a-key")
        (tmp_path / name).chmod(mode)
        monkeypatch.setenv(f"GEODES_API_KEY_{name.upper()}_FILE", str(tmp_path / name))
    monkeypatch.setenv("GEODES_API_KEY_GONE_FILE", str(tmp_path / "gone"))

    assert loose_key_files(load()) == [tmp_path / "group", tmp_path / "others"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_the_group_of_another_owner_may_read_a_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A secret that Kubernetes mounts is root's, for the pod's group: it cannot be chmodded."""
    for name, mode in (("mounted", 0o440), ("others", 0o444)):
        (tmp_path / name).write_text("a-key")
        (tmp_path / name).chmod(mode)
        os.chown(tmp_path / name, 12345, 12345)
        monkeypatch.setenv(f"GEODES_API_KEY_{name.upper()}_FILE", str(tmp_path / name))

    assert loose_key_files(load()) == [tmp_path / "others"]
