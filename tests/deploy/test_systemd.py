"""The units: systemd takes them, they are locked up, and a worker has time to stop."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from geodes_tasks.client.deployment import make_secrets
from geodes_tasks.settings.config import Config, environment_name
from tests.servers import Process, free_port, wait_until
from tests.tools import need, optional

DEPLOY = Path(__file__).parents[2] / "deploy"
FOLDER = DEPLOY / "systemd"
UNITS = sorted(path.name for path in FOLDER.glob("*.service"))
INSTALLED = "/opt/geodes-tasks/bin"
EXPOSURE = 2.0
"""Of 10, by systemd's own reckoning; a unit without any of this has 9.6."""


def settings_of(unit: str) -> dict[str, list[str]]:
    """Give the lines of a unit, by name."""
    found: dict[str, list[str]] = {}
    for line in (FOLDER / unit).read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def analyze(*words: str) -> subprocess.CompletedProcess[str]:
    """Ask systemd itself."""
    command = [*optional(["systemd-analyze"]), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """Copy the units as they would be where this Python is the one that has the program."""
    # By a link: the path of the checkout may have a space, which ends a word in a unit.
    (tmp_path / "bin").symlink_to(Path(sys.executable).parent)
    for unit in UNITS:
        text = (FOLDER / unit).read_text().replace(INSTALLED, str(tmp_path / "bin"))
        (tmp_path / unit).write_text(text)
    return tmp_path


@pytest.mark.parametrize("unit", UNITS)
def test_systemd_takes_it(unit: str, here: Path) -> None:
    """No unknown name, no value that systemd cannot read, a command that exists."""
    done = analyze("verify", "--man=no", str(here / unit))

    ours = [line for line in done.stderr.splitlines() if unit in line]
    assert (ours, done.returncode) == ([], 0), done.stderr


def test_a_wrong_name_would_be_noticed(here: Path) -> None:
    """A misspelt option is told, not passed over."""
    unit = here / UNITS[0]
    unit.write_text(unit.read_text().replace("ProtectHome=", "ProtectHomes="))

    assert "ProtectHomes" in analyze("verify", "--man=no", str(unit)).stderr


@pytest.mark.parametrize("unit", UNITS)
def test_it_is_locked_up(unit: str, here: Path) -> None:
    """Systemd's own reckoning of what a broken-into service could reach is low."""
    done = analyze("security", "--offline=true", str(here / unit))

    if "nrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze is too old to judge a file")
    match = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert match is not None, done.stdout + done.stderr
    assert float(match[1]) <= EXPOSURE, done.stdout


@pytest.mark.parametrize("unit", UNITS)
def test_its_settings_exist_and_none_is_a_secret(unit: str) -> None:
    """Variables are ours, and every file that they name is a credential of the unit."""
    known = {environment_name(field) for field in Config.fields}
    known |= {"FLOWER_BASIC_AUTH_FILE", "HOME"}
    unit_settings = settings_of(unit)
    variables = dict(line.split("=", 1) for line in unit_settings["Environment"])
    credentials = {line.partition(":")[0] for line in unit_settings["LoadCredential"]}

    assert set(variables) <= known
    named = {name: value for name, value in variables.items() if name.endswith("_FILE")}
    assert {value.removeprefix("%d/") for value in named.values()} == credentials
    (user,) = re.findall(r"redis://(\w+)@", variables["GEODES_TASKS_REDIS_URL"])
    sources = dict(line.split(":", 1) for line in unit_settings["LoadCredential"])
    assert sources["redis-password"] == f"/etc/geodes-tasks/redis/{user}/password"


def commands() -> list[list[str]]:
    """Return the commands of the page's section about systemd, split into words."""
    section = (DEPLOY / "README.md").read_text().partition("## systemd")[2].partition("\n## ")[0]
    return [shlex.split(line) for line in section.splitlines() if line.startswith("    ")]


@pytest.mark.parametrize("unit", UNITS)
def test_its_documentation_is_installed(unit: str) -> None:
    """The steps on the page install the file that ``systemctl help`` opens."""
    (page,) = settings_of(unit)["Documentation"]
    installed = {words[-1]: words[-2] for words in commands() if words[0] == "install"}

    assert installed[page.removeprefix("file:")] == "deploy/README.md"


def test_redis_has_its_users_as_the_page_says(tmp_path: Path) -> None:
    """Debian's Redis with the page's lines: no access without a password, and a file of appends."""
    server, debians = need("redis-server", "redis-server"), Path("/etc/redis/redis.conf")
    if not os.access(debians, os.R_OK):
        pytest.skip(f"{debians} cannot be read here")
    make_secrets(tmp_path / "secrets")
    acl = tmp_path / "secrets" / "acl" / "users.acl"
    (copied,) = (words[-1] for words in commands() if words[-2].endswith("/acl/users.acl"))
    (printed,) = (words for words in commands() if words[0] == "printf")
    lines = [line.replace(copied, str(acl)) for line in printed[2:-2]]
    assert printed[-2:] == [">>", str(debians)]
    port = free_port()
    here = [f"port {port}", f"dir {tmp_path}", f"pidfile {tmp_path}/pid", 'logfile ""']
    conf = tmp_path / "redis.conf"
    conf.write_text("\n".join([debians.read_text(), *lines, *here, "daemonize no", ""]))
    redis = Process(tmp_path / "redis.log")
    redis.spawn([server, str(conf)])
    password = (tmp_path / "secrets" / "worker" / "password").read_text()

    def ask(*options: str) -> str:
        command = ["redis-cli", "-p", str(port), *options, "ping"]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env=os.environ | {"REDISCLI_AUTH": ""},
        )  # fmt: skip
        return (done.stdout + done.stderr).strip()

    try:
        wait_until(lambda: "NOAUTH" in ask(), 20, "a refusal")
        answer = ask("--no-auth-warning", "--user", "worker", "--pass", password)
    finally:
        redis.stop()

    assert answer == "PONG", redis.text
    assert (tmp_path / "appendonlydir").is_dir()
    assert f"aclfile {acl}" in lines
    assert "maxmemory-policy noeviction" in lines


def test_a_worker_writes_in_one_place_and_has_time_to_stop() -> None:
    """What systemd lets it write to is what it lets itself write to."""
    worker = settings_of("geodes-tasks-worker.service")
    variables = dict(line.split("=", 1) for line in worker["Environment"])

    assert worker["ReadWritePaths"] == [variables["GEODES_TASKS_DOWNLOAD_ROOTS"]]
    assert worker["ProtectSystem"] == ["strict"]
    grace = float(variables["GEODES_TASKS_GRACE_SECONDS"])
    assert float(worker["TimeoutStopSec"][0]) > grace + 15
    # Its notes lie in a folder of its own, which systemd makes: the file system is read-only to it.
    assert variables["GEODES_TASKS_STATE_DIR"] == f"%S/{worker['StateDirectory'][0]}"
    for unit in UNITS:
        if "worker" not in unit:
            assert "ReadWritePaths" not in settings_of(unit)


@pytest.mark.parametrize("unit", UNITS)
def test_its_command_is_one_of_ours(unit: str) -> None:
    """The command that it starts exists, and has the options that it gives."""
    (line,) = settings_of(unit)["ExecStart"]
    program, command, *_ = line.split()

    assert program == f"{INSTALLED}/geodes-tasks"
    done = subprocess.run(
        [sys.executable, "-m", "geodes_tasks", command, "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert command in done.stdout
