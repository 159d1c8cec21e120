"""Settings come from defaults, a file, the environment and flags; errors name the setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config, environment_name, load
from geodes_tasks.settings.files import PYGEODES_FILE
from geodes_tasks.settings.origins import settings_in_force
from geodes_tasks.settings.quota import Quota
from geodes_tasks.settings.secret import Secret
from tests.unit.settings.support import SECRET, pygeodes_file


def test_defaults() -> None:
    """Without any setting the public portal, its quota and a local Redis are meant."""
    settings = load()

    assert settings.portal_url == "https://geodes-portal.cnes.fr"
    assert settings.s3_endpoint_url == "https://s3.datalake.cnes.fr"
    assert str(settings.redis_url) == "redis://127.0.0.1:6379/0"
    assert settings.quota == Quota(50, 3600.0)
    assert settings.download_dir == str(Path.cwd())
    assert settings.key() is None


def test_order_of_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag wins over the environment, which wins over the file, which wins over defaults."""
    pygeodes_file(download_dir="/file")
    assert load().download_dir == "/file"

    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_DIR", "/environment")
    assert load().download_dir == "/environment"

    assert load(download_dir=Path("/flag")).download_dir == "/flag"
    assert load(download_dir=None).download_dir == "/environment"


def test_file_named_by_hand_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is named wins over environment and usual files, and flags win over it."""
    pygeodes_file(download_dir="/usual")
    named = pygeodes_file("mine.json", download_dir="/named")

    assert load(named).download_dir == "/named"
    monkeypatch.setenv("GEODES_TASKS_DOWNLOAD_DIR", "/environment")
    assert load(named).download_dir == "/named"
    assert load(named, download_dir=Path("/flag")).download_dir == "/flag"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("GEODES_API_KEY", SECRET, "api_key", SECRET),
        ("AWS_ACCESS_KEY_ID", "id", "aws_access_key_id", "id"),
        ("AWS_SESSION_TOKEN", "t", "aws_session_token", "t"),
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
        ("GEODES_TASKS_MAX_CONCURRENT", "0", "must be at least 1"),
        ("GEODES_TASKS_MAX_ATTEMPTS", "few", "must be a whole number"),
        ("GEODES_TASKS_STALL_SECONDS", "-1", "greater than 0"),
        ("GEODES_TASKS_STALL_SECONDS", "nan", "a finite number"),
        ("GEODES_TASKS_LOG_FORMAT", "xml", "must be text or json"),
        ("GEODES_TASKS_ACCOUNT", "a b", "must have 1 to 64 letters"),
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


@pytest.mark.parametrize(
    ("positional", "given", "named"),
    [
        (("k",), {"api_key": "j"}, "each once"),
        (tuple("abcdefghijkl"), {}, "in this order"),
        ((), {"s3_credentials": 5}, "s3_credentials is a function, not int"),
    ],
)
def test_arguments_that_no_function_takes(
    positional: tuple[str, ...], given: dict[str, Any], named: str
) -> None:
    """None is dropped without a word."""
    with pytest.raises(TypeError, match=named):
        Config(*positional, **given)


def test_key_name(tmp_path: Path) -> None:
    """Messages call the key by its place and last characters; a short key shows nothing."""
    path = tmp_path / "key"
    path.write_text(SECRET)

    assert load(api_key=Secret(SECRET)).key_name() == (
        "the key in GEODES_API_KEY, ending in ...cret,"
    )
    assert str(path) in load(api_key_file=path).key_name()
    assert load(api_key=Secret("shorty")).key_name() == "the key in GEODES_API_KEY"


def test_secrets_are_not_shown() -> None:
    """The settings as text have no key, no S3 secret and no password of Redis in them."""
    settings = load(
        on_file=f"https://hooks.example/{SECRET}",
        api_key=Secret(SECRET),
        aws_secret_access_key=Secret(SECRET),
        redis_url=Secret(f"redis://:{SECRET}@h"),
    )

    for text in (repr(settings), str(settings)):
        assert SECRET not in text


def test_own_file_holds_every_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """``config.toml`` is weaker than pygeodes' file; its lists and numbers are those of TOML."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    file = tmp_path / "geodes-tasks" / "config.toml"
    file.parent.mkdir()
    file.write_text(
        'api_key = "of-toml"\nregion_name = "of-toml"\nquota = "10/hour"\nmax_concurrent = 9\n'
        'allowed_hosts = ["a.fr", "b.fr"]\ndownload_dir = "~/files"\ncolour = "blue"\n'
    )
    pygeodes_file(region_name="of-pygeodes")

    settings = load()

    assert (settings.api_key, settings.region_name) == ("of-toml", "of-pygeodes")
    assert (settings.quota, settings.max_concurrent) == (Quota(10, 3600.0), 9)
    assert settings.allowed_hosts == ("a.fr", "b.fr")
    assert settings.download_dir == str(Path("~/files").expanduser())
    assert "colour" in caplog.text
    monkeypatch.setenv("GEODES_API_KEY", "of-environment")
    assert load().api_key == "of-environment"


def test_an_empty_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Schedulers and env files export empty variables: the next source has its turn."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "")
    monkeypatch.setenv("GEODES_TASKS_QUOTA", "")

    assert (load().ca_bundle, load().quota) == (None, Quota(50, 3600.0))


def test_origins(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each setting is shown with its value and where it comes from; secrets as stars."""
    pygeodes_file(region_name="eu", api_key="hush-1")
    named = pygeodes_file("mine.json", download_dir="/named")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-2")
    monkeypatch.setenv("GEODES_TASKS_REDIS_URL", "redis://user:hush-3@host/0")
    monkeypatch.setenv("geodes_tasks_on_batch", "https://hooks.example/T0/hush-5")

    found = {one.name: (one.value, one.origin) for one in settings_in_force(named)}

    assert found["region_name"] == ("eu", PYGEODES_FILE)
    assert found["api_key"] == ("***", PYGEODES_FILE)
    assert found["download_dir"] == ("/named", "mine.json")
    assert found["aws_secret_access_key"] == ("***", "AWS_SECRET_ACCESS_KEY")
    assert found["redis_url"] == ("redis://user:***@host/0", "GEODES_TASKS_REDIS_URL")
    assert found["on_batch"] == ("https://hooks.example/***", "GEODES_TASKS_ON_BATCH")
    assert found["quota"] == ("50/hour", "default")
    assert found.keys() == Config.fields.keys()
    assert "hush" not in str(found)


def test_nothing_is_written(tmp_path: Path) -> None:
    """Reading the settings leaves the folder as it was."""
    load(api_key=Secret(SECRET))

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("quota", [None, Quota(10, 20.0)])
def test_child_process_reads_the_same_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: Quota | None
) -> None:
    """The variables for a child process give it the same settings, from any folder."""
    original = load(
        api_key=Secret(SECRET),
        aws_session_token=Secret("t"),
        redis_url=Secret(f"redis://:{SECRET}@h"),
        download_dir=tmp_path / "d",
        state_dir=tmp_path / "s",
        allowed_hosts=("a.fr", "b.fr"),
        max_attempts=3,
    ).replace(quota=quota)

    for name, value in config.environment(original).items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")

    assert load() == original


def test_every_field_has_a_name() -> None:
    """The variable of each setting is under one of the known prefixes."""
    for name in Config.fields:
        assert environment_name(name).startswith(("GEODES_", "AWS_")), name


def test_a_change_is_checked() -> None:
    """A setting that is changed later is parsed like at first, in a copy too; so is its name."""
    settings = load()
    settings.quota = "10/hour"  # as a notebook writes it
    copy = settings.replace(max_concurrent="2", api_key=None)

    assert (settings.quota, settings.max_concurrent) == (Quota(10, 3600.0), 4)
    assert (copy.quota, copy.max_concurrent) == (Quota(10, 3600.0), 2)
    with pytest.raises(ConfigError, match="GEODES_TASKS_MAX_CONCURRENT: must be at least 1"):
        settings.max_concurrent = 0
    with pytest.raises(AttributeError, match="did you mean max_concurrent"):
        settings.replace(max_concurent=1)


def test_a_secret_of_pydantic_is_taken() -> None:
    """Programs that keep their secrets as pydantic's ``SecretStr`` pass them as they are."""
    pydantic = pytest.importorskip("pydantic")

    assert load(api_key=pydantic.SecretStr(SECRET)).key() == SECRET


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


@pytest.mark.parametrize("name", ["download_dir", "state_dir", "ca_bundle", "download_roots"])
def test_a_null_character_is_named(name: str) -> None:
    """A file of settings, which may be a stranger's, can hold one; no path can."""
    with pytest.raises(ConfigError, match="holds a null character"):
        Config(**{name: "/data/\0"})
