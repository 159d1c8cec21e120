"""The package as users get it: a wheel in an environment of its own, away from the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import pytest

from geodes_tasks.model.version import __version__
from tests.release import VERSIONS

ROOT = Path(__file__).parents[2]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
BUILDS_LICENCE_EXPRESSIONS = 77
"""First version of setuptools that reads what pyproject.toml says of the licence."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from a copy: a build leaves folders beside the sources."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    code = ("geodes_tasks", "worker", "pyproject.toml", "README.md", "LICENSE")
    files = ("deploy", "docker-compose.yml", ".env.example", "constraints.txt")
    for name in code + files:
        subprocess.run(["cp", "-r", str(ROOT / name), str(source)], check=True)
    command = [*PIP, "wheel", "--no-deps", *isolation(), "--wheel-dir", str(target), str(source)]
    subprocess.run(command, check=True)
    (built,) = target.glob("*.whl")
    return built


def isolation() -> list[str]:
    """Build with the setuptools at hand where it is new enough, else have pip fetch one."""
    try:
        version = metadata.version("setuptools")
    except metadata.PackageNotFoundError:
        return []
    enough = int(version.split(".")[0]) >= BUILDS_LICENCE_EXPRESSIONS
    return ["--no-build-isolation"] if enough else []


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it into an empty environment, which borrows the libraries of this one."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = str(folder / "bin" / "python")
    subprocess.run([*PIP, "--python", python, "install", "--no-deps", str(wheel)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    # As a path, its own .pth files are not read: nothing leads back to the sources.
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def away_from_the_sources() -> dict[str, str]:
    """Give the environment without what leads to the sources."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def told(environment: Path, *command: str) -> str:
    """Run a program of the environment, away from the sources, and give what it prints."""
    return subprocess.run(
        [str(environment / "bin" / command[0]), *command[1:]],
        capture_output=True, text=True, check=True, cwd=environment, env=away_from_the_sources(),
    ).stdout  # fmt: skip


@pytest.mark.slow
def test_the_wheel_holds_what_runs_and_no_more(wheel: Path) -> None:
    """Scripts of the ledger, the marker of typed packages, the worker: all there, and no tests."""
    names = set(zipfile.ZipFile(wheel).namelist())

    scripts = (ROOT / "geodes_tasks" / "ledger" / "scripts").rglob("*.lua")
    wanted = {str(path.relative_to(ROOT)) for path in scripts}
    wanted |= {str(path.relative_to(ROOT)) for path in (ROOT / "worker").glob("*.py")}
    wanted |= {"geodes_tasks/py.typed", "geodes_tasks/__main__.py"}
    assert wanted <= names
    tops = {name.partition("/")[0] for name in names}
    ours = {f"geodes_tasks-{__version__}.{part}" for part in ("dist-info", "data")}
    assert tops == {"geodes_tasks", "worker", *ours}
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_command_is_installed(environment: Path) -> None:
    """``geodes-tasks`` is on the path of the environment, as ``python -m geodes_tasks`` is."""
    assert told(environment, "geodes-tasks", "--version") == f"geodes-tasks {__version__}\n"
    assert told(environment, "python", "-m", "geodes_tasks", "--version").endswith(
        __version__ + "\n"
    )


def test_the_deployment_files_are_installed(environment: Path, tmp_path: Path) -> None:
    """``geodes-tasks deploy-files`` and ``secrets`` work from an installed wheel."""
    told(environment, "geodes-tasks", "deploy-files", str(tmp_path / "site"))
    told(environment, "geodes-tasks", "secrets", str(tmp_path / "secrets"))

    for name in ("docker-compose.yml", "deploy/README.md", "deploy/slurm/geodes-tasks.sbatch"):
        assert (tmp_path / "site" / name).read_bytes() == (ROOT / name).read_bytes()
    assert (tmp_path / "site" / "deploy" / "kubernetes" / "chart" / "values.yaml").is_file()
    assert (tmp_path / "secrets" / "acl" / "users.acl").is_file()


LOOK = """
from importlib import resources
import geodes_tasks, worker
worker.app.loader.import_default_modules()
script = resources.files("geodes_tasks") / "ledger" / "scripts" / "claim_download.lua"
print(geodes_tasks.__file__, worker.__file__, sep="\\n")
print("geodes_tasks.download" in worker.app.tasks, script.is_file(), sep="\\n")
"""


def test_the_worker_is_installed(environment: Path) -> None:
    """``celery -A worker`` finds the application and its task, and the ledger its scripts."""
    package, application, *found = told(environment, "python", "-c", LOOK).splitlines()

    assert found == ["True", "True"]
    assert Path(package).is_relative_to(environment)
    assert Path(application).is_relative_to(environment)


BUILD_SDIST = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"


def test_the_sdist_holds_the_project(tmp_path: Path) -> None:
    """Who packages it again finds tests, documents and pins in the sdist, and no litter."""
    if not (ROOT / ".git").exists():
        pytest.skip("these sources are no checkout of git")
    source = tmp_path / "source"
    files = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in files.stdout.splitlines():
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)

    subprocess.run(
        [sys.executable, "-c", BUILD_SDIST, str(tmp_path)], cwd=source, check=True,
        capture_output=True,
    )  # fmt: skip

    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {"CHANGELOG.md", "LICENSE", "constraints.txt", "tests/demo.py", "docs/settings.md"}
    assert built.name == f"geodes_tasks-{__version__}.tar.gz"
    assert wanted <= names
    assert [name for name in names if name.endswith((".pyc", "__pycache__"))] == []


def test_the_release_is_checked_with_every_python_it_is_for() -> None:
    """The versions of the classifiers are those that `make release-check` looks for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    told = [one.rpartition(" ")[2] for one in project["classifiers"] if ":: 3." in one]

    assert told == list(VERSIONS)
    assert project["requires-python"] == f">={VERSIONS[0]}"
    assert "version" not in project
