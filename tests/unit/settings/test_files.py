"""Files of settings: pygeodes' own, with a key, with a password; errors name the file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings.config import load
from geodes_tasks.settings.files import PYGEODES_FILE
from geodes_tasks.settings.secret import Secret
from tests.unit.settings.support import SECRET, pygeodes_file


def test_pygeodes_file_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    """Every key that pygeodes documents is read, or ignored without a warning."""
    pygeodes_file(
        api_key=SECRET,
        logging_level="DEBUG",
        download_dir="/d",
        checksum_error=True,
        use_async_requests=True,
        nb_max_items=20,
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        aws_session_token="",
        region_name="eu-west-1",
    )

    settings = load()

    assert settings.key() == SECRET
    assert settings.download_dir == "/d"
    assert settings.aws_access_key_id == "id"
    assert settings.aws_secret_access_key == "secret"
    assert settings.aws_session_token is None
    assert settings.region_name == "eu-west-1"
    assert caplog.text == ""


def test_unknown_key_in_file_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt key is named in the log, without its value."""
    pygeodes_file(api_kye=SECRET)

    with caplog.at_level(logging.WARNING):
        load()

    assert "api_kye" in caplog.text
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    ("content", "problem"), [("{", "cannot be read as JSON"), ("[]", "is not a JSON object")]
)
def test_broken_file(content: str, problem: str) -> None:
    """A file that is no JSON object is named with its problem."""
    Path(PYGEODES_FILE).write_text(content)

    with pytest.raises(ConfigError, match=f"{PYGEODES_FILE}: {problem}"):
        load()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("on_file", "touch planted"),
        ("portal_url", "https://portal.invalid"),
        ("s3_credentials_command", "os:abort"),
        ("allowed_hosts", ["evil.invalid"]),
        ("redis_url", "redis://evil.invalid"),
    ],
)
def test_a_file_of_the_current_folder_commands_nothing(
    name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a stranger's: nothing runs a command, and the key goes to no other host."""
    without = load()
    pygeodes_file(**{name: value, "nb_max_items": 5})

    settings = load()

    assert getattr(settings, name) == getattr(without, name)
    assert (settings.nb_max_items, name in caplog.text) == (5, True)
    caplog.clear()
    assert getattr(load(Path(PYGEODES_FILE)), name) != getattr(settings, name)
    # It was named, so nothing of it is ignored.
    assert not caplog.text


def test_missing_file_named_by_hand() -> None:
    """A file that was named must be there."""
    with pytest.raises(ConfigError, match=r"absent\.json"):
        load(Path("absent.json"))


def test_key_file_is_read_anew(tmp_path: Path) -> None:
    """A key that is replaced in its file is the new one at the next call."""
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    settings = load(api_key_file=path, api_key=Secret("older"))
    assert settings.key() == SECRET

    path.write_text("new")

    assert settings.key() == "new"


@pytest.mark.parametrize(("content", "problem"), [(b"a b", "white space"), (b"\xff", "not UTF-8")])
def test_key_file_without_a_key(tmp_path: Path, content: bytes, problem: str) -> None:
    """A file that holds no key is named with its problem; its content is not quoted."""
    path = tmp_path / "key"
    path.write_bytes(content)
    settings = load(api_key_file=path)

    with pytest.raises(ConfigError, match=f"GEODES_API_KEY_FILE: .*{problem}") as caught:
        settings.key()

    assert "a b" not in str(caught.value)


def test_empty_key_file_is_no_key(tmp_path: Path) -> None:
    """Without a key in the file there is none."""
    path = tmp_path / "key"
    path.touch()

    assert load(api_key_file=path).key() is None


def test_missing_key_file() -> None:
    """A key file that is not there is named."""
    settings = load(api_key_file=Path("/nonexistent/key"))

    with pytest.raises(ConfigError, match=r"GEODES_API_KEY_FILE: .*/nonexistent/key"):
        settings.key()


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://host:6379/0", "redis://:p%40ss%2Fword@host:6379/0"),
        ("rediss://me@host/3?ssl_ca_certs=/b", "rediss://me:p%40ss%2Fword@host/3?ssl_ca_certs=/b"),
        ("redis://worker:own@host/0", "redis://worker:own@host/0"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_password_of_redis_in_a_file(url: str, whole: str, tmp_path: Path) -> None:
    """The file's password goes into an address that has none; a socket needs none."""
    (tmp_path / "password").write_text("p@ss/word\n")

    settings = load(redis_url=url, redis_password_file=tmp_path / "password")

    assert str(settings.redis_url) == whole


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b"\xff\xfe", "not UTF-8 text"), (None, "No such file")],
)
def test_password_file_that_will_not_do(
    content: bytes | None, problem: str, tmp_path: Path
) -> None:
    """The error names the problem of the file, and nothing of its content."""
    if content is not None:
        (tmp_path / "password").write_bytes(content)

    with pytest.raises(ConfigError, match=problem):
        load(redis_password_file=tmp_path / "password")
