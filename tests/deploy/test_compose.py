"""The compose file: closed by default, the stop long enough, every setting one that exists.

That it runs is `make compose-test`, with a real engine.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from geodes_tasks.client.deployment import USERS
from geodes_tasks.settings.config import Config, environment_name
from tests.tools import need, optional

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text()
STACK: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
OURS = [name for name, one in SERVICES.items() if "build" in one]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened(name: str) -> None:
    """No root, a read-only root file system, no capabilities, no new privileges."""
    service = SERVICES[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service["user"].startswith("0")
    assert "/tmp" in service["tmpfs"]  # noqa: S108 - a mount point


def test_the_secrets_have_a_place_in_a_container_that_cannot_write_to_itself() -> None:
    """``geodes-tasks secrets`` writes one folder for each user of Redis, in no other place."""
    service = SERVICES["secrets"]
    mounted = {volume.partition(":")[2] for volume in service["volumes"]}
    mounted |= {folder.partition(":")[0] for folder in service["tmpfs"]}

    assert {f"/secrets/{user}" for user in (*USERS, "acl", "grafana")} <= mounted


def test_what_runs_for_long_has_a_limit_of_memory() -> None:
    """A service that grows ends by itself, before the kernel chooses which program to end."""
    lasting = {name for name, one in SERVICES.items() if one["restart"] == "unless-stopped"}
    limited = {name for name, one in SERVICES.items() if "mem_limit" in one}

    assert lasting - {"demo-portal", "demo-worker"} == limited


@pytest.mark.parametrize("name", SERVICES)
def test_logs_do_not_grow_without_limit(name: str) -> None:
    """Docker's own default keeps every line of a worker that runs for months."""
    options = SERVICES[name]["logging"]["options"]

    assert (options["max-size"], options["max-file"]) == ("10m", "3")


def test_redis_is_full_before_the_kernel_ends_it() -> None:
    """Its own limit is at most 60 % of the container's."""
    redis = SERVICES["redis"]
    own = redis["command"][redis["command"].index("--maxmemory") + 1]

    assert (own, redis["mem_limit"]) == ("${REDIS_MAXMEMORY:-1200mb}", "${REDIS_MEMORY:-2g}")
    assert 1200 * 10**6 <= 0.6 * 2 * 2**30
    assert SERVICES["worker"]["mem_limit"] == "${WORKER_MEMORY:-1g}"


def test_only_pages_with_a_password_are_published() -> None:
    """Flower and Grafana alone have a port outside, on loopback unless somebody says more."""
    published = {name: one["ports"] for name, one in SERVICES.items() if one.get("ports")}

    assert set(published) == {"flower", "grafana"}
    for (port,) in published.values():
        assert re.match(r"\$\{\w+_LISTEN:-127\.0\.0\.1:\d+\}:\d+$", port)


def test_redis_keeps_what_it_has_and_knows_its_users() -> None:
    """Append-only file, no eviction, an ACL file, and a network without a way out."""
    redis = SERVICES["redis"]
    words = redis["command"]

    for option, value in {
        "--appendonly": "yes", "--maxmemory-policy": "noeviction", "--save": "",
        "--maxmemory": "${REDIS_MAXMEMORY:-1200mb}",
        "--aclfile": "/secrets/acl/users.acl",
    }.items():  # fmt: skip
        assert words[words.index(option) + 1] == value
    assert redis["networks"] == ["inside"]
    assert STACK["networks"]["inside"]["internal"] is True


@pytest.mark.parametrize("name", OURS)
def test_settings_exist(name: str) -> None:
    """Every variable that a service sets is one that something reads."""
    known = {environment_name(field) for field in Config.fields}
    known |= {"AWS_SHARED_CREDENTIALS_FILE", "FLOWER_BASIC_AUTH_FILE"}

    assert set(SERVICES[name].get("environment", {})) <= known


@pytest.mark.parametrize("name", OURS)
def test_no_secret_is_in_the_environment(name: str) -> None:
    """Passwords and keys come as files; the demonstration's own are none."""
    environment = SERVICES[name].get("environment", {})
    if name == "demo-worker":
        assert environment["GEODES_API_KEY"] == environment["AWS_ACCESS_KEY_ID"] + "-key"
        return

    assert not [n for n in environment if n.endswith(("KEY", "SECRET", "TOKEN", "PASSWORD"))]
    if "GEODES_TASKS_REDIS_URL" in environment:
        user = re.match(r"redis://(\w+)@redis:6379/0$", environment["GEODES_TASKS_REDIS_URL"])
        assert user is not None
        folder = f"/secrets/{user[1]}"
        assert environment["GEODES_TASKS_REDIS_PASSWORD_FILE"] == f"{folder}/password"
        mounts = [mount.split(":")[1] for mount in SERVICES[name]["volumes"]]
        assert [mount for mount in mounts if mount.startswith("/secrets/")] == [folder]


@pytest.mark.parametrize("name", ["worker", "demo-worker"])
def test_a_worker_has_time_to_stop(name: str) -> None:
    """It is killed long after it has given its downloads back, and says whether it lives."""
    worker = SERVICES[name]
    grace = float(worker["environment"]["GEODES_TASKS_GRACE_SECONDS"])

    assert float(worker["stop_grace_period"].removesuffix("s")) > grace + 15
    assert worker["healthcheck"]["test"][:4] == ["CMD", "python", "-m", "worker.health"]
    assert worker["depends_on"]["redis"] == {"condition": "service_healthy"}


def test_the_demonstration_cannot_reach_the_world() -> None:
    """Its services are in the closed network only, and start with their profile only."""
    demo = {name: one for name, one in SERVICES.items() if name.startswith("demo-")}

    assert len(demo) == 3
    for name, service in demo.items():
        assert service["profiles"] == ["demo"], name
        shared = service.get("network_mode") == "service:demo-portal"
        assert shared or service["networks"] == ["inside"], name


def test_the_image_is_built_without_the_demonstration() -> None:
    """A builder that takes the stages in their order has the image before the tests' packages."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    before, _, after = text.partition("AS runtime\n")

    assert "AS slim\n" in before
    for demo in ("moto", "COPY tests", "AS demo\n"):
        assert demo not in before
        assert demo in after
    assert text.endswith("FROM runtime\n")


def test_one_image_serves_every_owner() -> None:
    """Compose alone knows the owner; each mounted folder is open to any user."""
    text = (ROOT / "deploy" / "Dockerfile").read_text()
    (folders,) = re.findall(r"install -d -m 0777 ((?:.*\\\n)*.*)", text)
    mounts = [mount for name in OURS for mount in SERVICES[name].get("volumes", ())]
    mounted = {re.sub(r"^\$\{[^}]*\}", "", mount).split(":")[1] for mount in mounts}

    assert "GEODES_UID" not in text
    assert mounted <= set(folders.replace("\\", "").split())


def test_every_mounted_file_is_there() -> None:
    """What is mounted out of the checkout exists, and so does every volume that is named."""
    for name, service in SERVICES.items():
        for mount in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", mount).split(":")[0]
            there = (ROOT / source).exists() if source[0] == "." else source in STACK["volumes"]
            assert there, (name, mount)


def test_the_example_of_settings_names_what_is_read() -> None:
    """Each line of .env.example sets a variable of the compose file."""
    example = (ROOT / ".env.example").read_text()
    variables = re.findall(r"^#?([A-Z_]+)=", example, re.MULTILINE)

    assert len(variables) > 10
    assert [name for name in variables if f"${{{name}:-" not in TEXT] == []


@pytest.mark.parametrize("profile", ["demo", "monitoring", "tools"])
def test_compose_reads_it(profile: str) -> None:
    """The compose of this machine takes the file, and the one that the test lays over it."""
    command = optional(["docker-compose"], ["docker", "compose"], proof="version")
    options = ["--env-file", "deploy/compose/no-secret", "--profile", profile]
    files = ["-f", "docker-compose.yml", "-f", "deploy/compose/test.yml"]

    done = subprocess.run(
        [*command, *options, *files, "config", "-q"],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr


def test_prometheus_reads_its_configuration(tmp_path: Path) -> None:
    """Promtool takes the configuration, with the alert rules beside it as in the container."""
    promtool = need("prometheus", "promtool")
    for file in ("deploy/compose/prometheus.yml", "deploy/prometheus/alerts.yml"):
        shutil.copy(ROOT / file, tmp_path)

    done = subprocess.run(
        [promtool, "check", "config", str(tmp_path / "prometheus.yml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
