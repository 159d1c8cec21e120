"""Settings come from defaults, pygeodes' file, the environment and flags; errors name the place."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings import config
from geodes_tasks.settings.config import (
    Quota,
    Settings,
    environment_name,
    is_loopback,
    load,
    masked,
)

SECRET = "0123456789abcdef-secret"


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder, without settings in the environment."""
    prefixes = ("GEODES_", "AWS_", "REQUESTS_CA_BUNDLE")
    for name in [name for name in os.environ if name.upper().startswith(prefixes)]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def pygeodes_file(path: str = config.PYGEODES_FILE, **content: Any) -> Path:
    """Write a pygeodes configuration file into the current folder."""
    Path(path).write_text(json.dumps(content))
    return Path(path)


def test_defaults() -> None:
    """Without any setting the public portal, its quota and a local Redis are meant."""
    settings = load()

    assert settings.portal_url == "https://geodes-portal.cnes.fr"
    assert settings.s3_endpoint_url == "https://s3.datalake.cnes.fr"
    assert settings.redis_url.get_secret_value() == "redis://127.0.0.1:6379/0"
    assert settings.quota == Quota(50, 3600.0)
    assert settings.download_dir == Path()
    assert settings.key() is None


def test_order_of_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag wins over the environment, which wins over the file, which wins over defaults."""
    pygeodes_file(download_dir="/file")
    assert load().download_dir == Path("/file")

    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_DIR", "/environment")
    assert load().download_dir == Path("/environment")

    assert load(download_dir=Path("/flag")).download_dir == Path("/flag")
    assert load(download_dir=None).download_dir == Path("/environment")


def test_file_named_by_hand_is_a_file_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named takes the place of the usual one: environment and flags win over it."""
    pygeodes_file(download_dir="/usual")
    named = pygeodes_file("mine.json", download_dir="/named")

    assert load(named).download_dir == Path("/named")
    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_DIR", "/environment")
    assert load(named).download_dir == Path("/environment")
    assert load(named, download_dir=Path("/flag")).download_dir == Path("/flag")


def test_pygeodes_file_unchanged(caplog: pytest.LogCaptureFixture) -> None:
    """Every key that pygeodes documents is read or passed over in silence."""
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
    assert settings.download_dir == Path("/d")
    assert settings.aws_access_key_id == SecretStr("id")
    assert settings.aws_secret_access_key == SecretStr("secret")
    assert settings.aws_session_token is None
    assert settings.region_name == "eu-west-1"
    assert caplog.text == ""


def test_unknown_key_in_file_warns(caplog: pytest.LogCaptureFixture) -> None:
    """A misspelt key is said, without its value."""
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
    Path(config.PYGEODES_FILE).write_text(content)

    with pytest.raises(ConfigError, match=f"{config.PYGEODES_FILE}: {problem}"):
        load()


def test_missing_file_named_by_hand() -> None:
    """A file that was named must be there."""
    with pytest.raises(ConfigError, match=r"absent\.json"):
        load(Path("absent.json"))


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("GEODES_API_KEY", SECRET, "api_key", SecretStr(SECRET)),
        ("AWS_ACCESS_KEY_ID", "id", "aws_access_key_id", SecretStr("id")),
        ("AWS_SESSION_TOKEN", "t", "aws_session_token", SecretStr("t")),
        ("AWS_REGION", "eu", "region_name", "eu"),
        ("AWS_DEFAULT_REGION", "eu", "region_name", "eu"),
        ("GEODES_TASKS_PORTAL_URL", "http://127.0.0.1:8/", "portal_url", "http://127.0.0.1:8"),
        ("GEODES_TASKS_QUOTA", "10/20seconds", "quota", Quota(10, 20.0)),
        ("GEODES_TASKS_QUOTA", "off", "quota", None),
        ("GEODES_TASKS_MAX_CONCURRENT", "7", "max_concurrent", 7),
        ("GEODES_TASKS_LEASE_SECONDS", "2.5", "lease_seconds", 2.5),
        ("GEODES_TASKS_ALLOWED_HOSTS", "a.fr, b.fr,", "allowed_hosts", ("a.fr", "b.fr")),
        ("REQUESTS_CA_BUNDLE", "/ca.pem", "ca_bundle", Path("/ca.pem")),
        ("GEODES_TASKS_CA_BUNDLE", "/ca.pem", "ca_bundle", Path("/ca.pem")),
    ],
)
def test_environment(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object
) -> None:
    """Each variable sets its field."""
    monkeypatch.setenv(variable, value)

    assert getattr(load(), field) == expected


@pytest.mark.parametrize(
    ("variable", "value", "problem"),
    [
        ("GEODES_TASKS_PORTAL_URL", "http://portal.example", "loopback only"),
        ("GEODES_TASKS_PORTAL_URL", "portal.example", "is not an address"),
        ("GEODES_TASKS_S3_ENDPOINT_URL", "ftp://h", "is not an address"),
        ("GEODES_TASKS_QUOTA", "many", "is no quota"),
        ("GEODES_TASKS_QUOTA", "0/hour", "is no quota"),
        ("GEODES_TASKS_MAX_CONCURRENT", "0", "greater than or equal to 1"),
        ("GEODES_TASKS_MAX_ATTEMPTS", "few", "valid integer"),
        ("GEODES_TASKS_STALL_SECONDS", "-1", "greater than 0"),
        ("GEODES_TASKS_ACCOUNT", "a b", "pattern"),
    ],
)
def test_bad_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, problem: str
) -> None:
    """A value that cannot be used is an error of one line that names its variable."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigError, match=f"{variable}: .*{problem}") as caught:
        load()

    assert str(caught.value).isprintable()
    assert caught.value.hint


def test_key_file_is_read_anew(tmp_path: Path) -> None:
    """A key that is replaced in its file is the new one at the next call."""
    path = tmp_path / "key"
    path.write_text(f"{SECRET}\n")
    settings = load(api_key_file=path, api_key=SecretStr("older"))
    assert settings.key() == SECRET

    path.write_text("new")

    assert settings.key() == "new"


def test_empty_key_file_is_no_key(tmp_path: Path) -> None:
    """A file without a key in it gives none."""
    path = tmp_path / "key"
    path.touch()

    assert load(api_key_file=path).key() is None


def test_missing_key_file() -> None:
    """A key file that is not there is named."""
    settings = load(api_key_file=Path("/nonexistent/key"))

    with pytest.raises(ConfigError, match=r"GEODES_API_KEY_FILE: .*/nonexistent/key"):
        settings.key()


def test_key_name(tmp_path: Path) -> None:
    """Messages call the key by its place and last characters; a short key shows nothing."""
    path = tmp_path / "key"
    path.write_text(SECRET)

    assert load(api_key=SecretStr(SECRET)).key_name() == (
        "the key in GEODES_API_KEY, ending in ...cret,"
    )
    assert str(path) in load(api_key_file=path).key_name()
    assert load(api_key=SecretStr("shorty")).key_name() == "the key in GEODES_API_KEY"


def test_secrets_are_not_shown() -> None:
    """The settings as text have no key, no S3 secret and no password of Redis in them."""
    settings = load(
        api_key=SecretStr(SECRET),
        aws_secret_access_key=SecretStr(SECRET),
        redis_url=SecretStr(f"redis://:{SECRET}@h"),
    )

    for text in (repr(settings), str(settings), settings.model_dump_json()):
        assert SECRET not in text


def test_settings_are_frozen() -> None:
    """Settings are read once and stay."""
    settings = load()

    with pytest.raises(ValueError, match="frozen"):
        settings.max_attempts = 1


def test_nothing_is_written(tmp_path: Path) -> None:
    """Reading the settings leaves the folder as it was."""
    load(api_key=SecretStr(SECRET))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quota", [None, Quota(10, 20.0)])
def test_child_process_reads_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: Quota | None
) -> None:
    """The variables for a child process give it the same settings, from any folder."""
    original = load(
        api_key=SecretStr(SECRET),
        aws_session_token=SecretStr("t"),
        redis_url=SecretStr(f"redis://:{SECRET}@h"),
        download_dir=tmp_path / "d",
        state_dir=tmp_path / "s",
        allowed_hosts=("a.fr", "b.fr"),
        max_attempts=3,
    ).model_copy(update={"quota": quota})

    for name, value in config.environment(original).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")

    assert load() == original


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50/hour", Quota(50, 3600.0)),
        (" 10 / 20 Seconds ", Quota(10, 20.0)),
        ("1/second", Quota(1, 1.0)),
        ("5/2days", Quota(5, 172800.0)),
        ("off", None),
        ("none", None),
        ("", None),
        (None, None),
        (Quota(3, 4.0), Quota(3, 4.0)),
    ],
)
def test_quota(text: Any, expected: Quota | None) -> None:
    """A quota is a count in a window, or off."""
    assert Quota.parse(text) == expected


@pytest.mark.parametrize(
    "text", ["50", "50/", "/hour", "-1/hour", "0/hour", "5/week", "5 per hour"]
)
def test_no_quota(text: str) -> None:
    """What is no quota is refused with the forms that are."""
    with pytest.raises(ValueError, match="50/hour, 10/20seconds or off"):
        Quota.parse(text)


def test_quota_as_text_is_read_back() -> None:
    """The text of a quota is a quota."""
    assert Quota.parse(str(Quota(50, 3600.0))) == Quota(50, 3600.0)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),  # noqa: S104 - nothing is bound
        ("localhost.example", False),
        ("127.0.0.1.example", False),
        ("", False),
        (None, False),
    ],
)
def test_loopback(host: str | None, expected: bool) -> None:
    """Only this machine itself is loopback, not a name that begins like it."""
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://:hunter2@h:6379/0", "redis://:***@h:6379/0"),
        ("redis://me:hunter2@h", "redis://me:***@h"),
        ("redis://h:6379/0", "redis://h:6379/0"),
    ],
)
def test_masked(url: str, expected: str) -> None:
    """A password in an address is not shown."""
    assert masked(url) == expected


def test_every_field_has_a_name_and_a_description() -> None:
    """Each setting is documented, and its variable is under one of the known prefixes."""
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert environment_name(name).startswith(("GEODES_", "AWS_")), name


# --- the password of Redis in a file --------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "whole"),
    [
        ("redis://host:6379/0", "redis://:p%40ss%2Fword@host:6379/0"),
        ("rediss://worker@host/3?a=b", "rediss://worker:p%40ss%2Fword@host/3?a=b"),
        ("redis://worker:own@host/0", "redis://worker:own@host/0"),
        ("redis+socket:///run/redis.sock", "redis+socket:///run/redis.sock"),
    ],
)
def test_password_of_redis_in_a_file(url: str, whole: str, tmp_path: Path) -> None:
    """The file's password goes into an address that has none; a socket needs none."""
    (tmp_path / "password").write_text("p@ss/word\n")

    settings = load(redis_url=url, redis_password_file=tmp_path / "password")

    assert settings.redis_url.get_secret_value() == whole


@pytest.mark.parametrize(
    ("content", "problem"),
    [(b"", "is empty"), (b"\xff\xfe", "not UTF-8 text"), (None, "No such file")],
)
def test_password_file_that_will_not_do(
    content: bytes | None, problem: str, tmp_path: Path
) -> None:
    """What is wrong with the file is said, and nothing of what it holds."""
    if content is not None:
        (tmp_path / "password").write_bytes(content)

    with pytest.raises(ConfigError, match=problem):
        load(redis_password_file=tmp_path / "password")


# --- roots ----------------------------------------------------------------------------------------


def test_roots_are_read_like_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several folders stand between colons; a child process reads the same ones."""
    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_ROOTS", "/data:/scratch/geodes:")

    settings = load()

    assert settings.download_roots == (Path("/data"), Path("/scratch/geodes"))
    told = config.environment(settings)["GEODES_TASKS_DOWNLOAD_ROOTS"]
    assert told == "/data:/scratch/geodes"


def test_a_relative_root_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A root that depends on the current folder would protect nothing."""
    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_ROOTS", "downloads")

    with pytest.raises(ConfigError, match="'downloads' is a relative path"):
        load()
