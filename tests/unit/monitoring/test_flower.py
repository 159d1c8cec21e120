"""Flower's configuration: rows that can be read, and a password wherever others can reach it."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from geodes_tasks.errors import ConfigError
from geodes_tasks.monitoring import flower
from geodes_tasks.monitoring.flower import OPEN_API, protect, readable


def options(**given: Any) -> SimpleNamespace:
    """Give Flower's options as they are before anybody has set one."""
    known: dict[str, Any] = {
        "address": "127.0.0.1", "unix_socket": "", "basic_auth": None, "auth": "",
        "read_only": None, "conf": "flowerconfig.py",
    }  # fmt: skip
    return SimpleNamespace(**known | given)


@pytest.fixture(autouse=True)
def closed_api(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin with Flower's own rule for its API, and leave it behind."""
    monkeypatch.setenv(OPEN_API, "")
    monkeypatch.delenv(OPEN_API)


def task(**fields: Any) -> SimpleNamespace:
    """Give a task as Flower hands it to its formatter."""
    known: dict[str, Any] = {
        "state": "STARTED", "kwargs": None, "result": None, "exception": None, "retried": None,
    }  # fmt: skip
    return SimpleNamespace(**known | fields)


@pytest.mark.parametrize("address", ["127.0.0.1", "localhost", "::1"])
def test_alone_on_this_machine(address: str) -> None:
    """On loopback nobody is asked for a password, programs may read, and no button works."""
    chosen = options(address=address)

    protect(chosen)

    assert chosen.basic_auth is None
    assert chosen.read_only is True
    assert os.environ[OPEN_API] == "true"


@pytest.mark.parametrize("address", ["", "0.0.0.0", "flower.example.org"])  # noqa: S104 - the point
def test_where_others_can_reach_it(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Anywhere else a password is made, told once, and the API is closed without it."""
    chosen = options(address=address)

    protect(chosen)

    (credentials,) = chosen.basic_auth
    assert credentials.startswith("geodes:")
    assert len(credentials) > 20
    assert credentials.removeprefix("geodes:") in capsys.readouterr().err
    assert chosen.read_only is False
    assert OPEN_API not in os.environ


def test_a_password_of_ones_own_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    """Who names a password, or a way to sign in, gets that and no other."""
    own, signed = options(address="", basic_auth=["me:secret"]), options(address="", auth=".*@x.fr")

    protect(own)
    protect(signed)

    assert own.basic_auth == ["me:secret"]
    assert signed.basic_auth is None
    assert capsys.readouterr().err == ""


def test_read_only_can_be_chosen() -> None:
    """Whoever sets ``--read_only`` is obeyed either way."""
    viewer = options(address="", basic_auth=["me:secret"], read_only=True)
    bold = options(read_only=False)

    protect(viewer)
    protect(bold)

    assert (viewer.read_only, bold.read_only) == (True, False)


def test_conf_file_is_waited_for(tmp_path: Any) -> None:
    """While a conf file is still to be read, which may name a password, none is made."""
    conf = tmp_path / "flowerconfig.py"
    conf.write_text("basic_auth = ['me:secret']\n")
    chosen = options(address="", conf=str(conf))
    guard = flower._Guard(chosen)

    guard()
    before = chosen.basic_auth
    chosen.basic_auth = ["me:secret"]
    guard()

    assert before is None
    assert chosen.basic_auth == ["me:secret"]


def test_row_says_file_size_and_item() -> None:
    """The arguments read as a person would say them."""
    shown = readable(task(kwargs="{'item': 'URN:X:V1', 'file': 'X.zip', 'size': '2.1 MB'}"))

    assert shown.kwargs == "X.zip, 2.1 MB, URN:X:V1"


def test_long_names_keep_date_and_tile() -> None:
    """A long file name shows date and tile first, for products begin alike, and then whole."""
    name = "S2A_MSIL1C_20250402T175741_N0511_R141_T31TCJ_20250403T000010.zip"

    shown = readable(task(kwargs=str({"item": "URN:X:V1", "file": name, "size": "2.1 MB"})))

    assert shown.kwargs == f"S2A..20250402T175741..T31TCJ, 2.1 MB, URN:X:V1, {name}"


@pytest.mark.parametrize("text", [None, "", "{'item': 'URN:X", "(1, 2)", "{'other': 1}"])
def test_strange_arguments_are_shown_as_they_are(text: str | None) -> None:
    """What is cut off or somebody else's task harms no row."""
    assert readable(task(kwargs=text)).kwargs == text


def test_waiting_row_says_why_and_until_when() -> None:
    """A waiting download shows its reason and when it continues; never a time that has passed."""
    error = "quota: https://x/y: download quota used up: 50 in the last 3600 s"
    later, past = (
        (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat() for seconds in (90, -90)
    )

    # The clock of the worker, which is wrong, says when it was retried.
    shown = readable(task(state="RETRY", exception=f"{error} (waits until {later})", retried=1.0))
    late = readable(task(state="RETRY", exception=f"{error} (waits until {past})", retried=9e9))

    reason = "quota: download quota used up: 50 in the last 3600 s"
    assert re.fullmatch(rf"until \d\d:\d\d:\d\d \S+, {reason}", shown.result)
    assert late.result == f"waits for a free worker, {reason}"


def test_waiting_for_its_turn() -> None:
    """Where no time is known, the reason alone is shown."""
    shown = readable(task(state="RETRY", exception="auth: refused (waits for its turn)", retried=1))

    assert shown.result == "auth: refused (waits for its turn)"


def test_finished_row_says_the_outcome() -> None:
    """A finished download shows its outcome, what was fetched, and if it is proven."""
    result = str({"outcome": "RESUMED", "bytes_transferred": 1_200_000, "source": "geodes",
                  "verified": True})  # fmt: skip

    shown = readable(task(state="SUCCESS", result=result))

    assert shown.result == "RESUMED, 1.2 MB from geodes, verified"


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("NotFoundError('https://x/y', 404)", "NotFoundError: no such file (HTTP 404)"),
        ("TransferError('https://x/y', 'it broke')", "TransferError: it broke"),
        ("NotFoundError('https://x/y', ...", "NotFoundError(..."),
        ("ValueError('odd')", "ValueError('odd')"),
    ],
)
def test_failed_row_says_the_error(told: str, shown: str) -> None:
    """A failed download shows its error as a sentence in the same column, without the address."""
    assert readable(task(state="FAILURE", exception=told)).result == shown


@pytest.mark.parametrize("values", ["-" * 3000 + "1", "(" * 3000, "None, None", "'a', 'b', 'c'"])
def test_a_forged_error_ends_no_row(values: str) -> None:
    """Other programs may send events: what is no error of ours is shown as it came."""
    told = f"TransferError({values})"

    assert "TransferError" in readable(task(state="FAILURE", exception=told)).result


@pytest.mark.parametrize("count", ["'many'", "[]", "9" * 400])
def test_a_forged_result_ends_no_row(count: str) -> None:
    """Flower would write a traceback for each of them, whenever somebody reads its list."""
    told = f"{{'outcome': 'x', 'source': 's', 'bytes_transferred': {count}}}"

    assert readable(task(state="SUCCESS", result=told)).result == told
    assert readable(task(state="FAILURE", exception=f"ThrottledError('x', {count})")).result


def test_moving_numbers_are_left_alone() -> None:
    """What a running download tells of itself is shown as it is."""
    text = "42 % of 764.2 MB, 61.0 MB/s, 7 s left"

    assert readable(task(state="STARTED", result=text)).result == text


# --- a password in a file -------------------------------------------------------------------------


def test_password_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may come stands in a file, one a line; the file's name alone is in the environment."""
    (tmp_path / "auth").write_text("ann:secret one\n\nbob:two:three\n")
    monkeypatch.setenv("FLOWER_BASIC_AUTH_FILE", str(tmp_path / "auth"))
    chosen = options(address="0.0.0.0")  # noqa: S104 - the point

    protect(chosen)

    assert chosen.basic_auth == ["ann:secret one", "bob:two:three"]
    assert chosen.read_only is False


@pytest.mark.parametrize("content", [b"", b"only-a-name\n", b"user:p\xff\n", None])
def test_password_file_that_will_not_do(
    content: bytes | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower does not start open because a file is empty or missing."""
    if content is not None:
        (tmp_path / "auth").write_bytes(content)
    monkeypatch.setenv("FLOWER_BASIC_AUTH_FILE", str(tmp_path / "auth"))

    with pytest.raises(ConfigError, match="FLOWER_BASIC_AUTH_FILE"):
        protect(options())
