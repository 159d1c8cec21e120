"""A program that a test needs and that does not work is missing: skipped, with the reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import browser
from tests.tools import need, optional

if TYPE_CHECKING:
    from pathlib import Path

BROKEN = 'echo "unknown command: docker compose" >&2; exit 1'
COMPOSE = ["docker-compose"], ["docker", "compose"]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the only one with programs."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def program(folder: Path, name: str, script: str) -> str:
    """Write a program."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize("ci", ["", "1"])
def test_docker_without_compose_is_skipped(
    path: Path, monkeypatch: pytest.MonkeyPatch, ci: str
) -> None:
    """A docker that lacks the plugin is a reason to skip, in CI too, which has no docker."""
    monkeypatch.setenv("CI", ci)
    program(path, "docker", BROKEN)

    with pytest.raises(pytest.skip.Exception, match=r"exit code 1: unknown command: docker comp"):
        optional(*COMPOSE, proof="version")


def test_the_first_program_that_works_is_taken(path: Path) -> None:
    """A broken docker-compose beside a docker with the plugin does no harm."""
    program(path, "docker-compose", BROKEN)
    docker = program(path, "docker", 'test "$*" = "compose version"')

    assert optional(*COMPOSE, proof="version") == [docker, "compose"]


def test_no_program_at_all(path: Path) -> None:
    """Where nothing is installed, the reason names the first program."""
    assert path.is_dir()
    with pytest.raises(pytest.skip.Exception, match="no docker-compose is installed"):
        optional(*COMPOSE, proof="version")


@pytest.mark.parametrize(
    ("ci", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)]
)
def test_a_tool_of_ci_that_does_not_work(
    path: Path, monkeypatch: pytest.MonkeyPatch, ci: str, outcome: type[BaseException]
) -> None:
    """Skipped on a laptop and failed in CI, as if it were not installed."""
    monkeypatch.setenv("CI", ci)
    program(path, "redis-server", "echo no such library >&2; exit 127")

    with pytest.raises(outcome, match=r"exit code 127: no such library .*apt-get install redis"):
        need("redis-server", "redis-server")


def test_a_program_for_another_machine(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that this machine cannot run is no program."""
    monkeypatch.delenv("CI", raising=False)
    file = path / "promtool"
    file.write_bytes(b"\x7fELF nothing")
    file.chmod(0o755)

    with pytest.raises(pytest.skip.Exception, match="promtool --version` does not work"):
        need("prometheus", "promtool")


def test_a_browser_that_is_only_a_note(path: Path) -> None:
    """The browser of tests is the first one that starts."""
    program(path, "chromium", "echo 'install the snap' >&2; exit 1")
    chrome = program(path, "google-chrome", "exit 0")

    assert browser.browser() == chrome
    assert need("chromium", *browser.NAMES) == chrome
