"""Settings come from defaults, a file, the environment and flags; errors name the setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Settings, environment_name, load
from geodes_tasks.settings.quota import Quota
from tests.unit.settings.support import SECRET, pygeodes_file


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


def test_every_field_has_a_name_and_a_description() -> None:
    """Each setting is documented, and its variable is under one of the known prefixes."""
    for name, info in Settings.model_fields.items():
        assert info.description, name
        assert environment_name(name).startswith(("GEODES_", "AWS_")), name


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
