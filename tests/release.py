"""The release as its users will get it: ``python -m tests.release [PYTHON...]``.

Builds wheel and sdist from a copy of what git knows, has twine look at both, and installs each of
them into an empty environment of every Python from 3.11 to 3.13 that is found here. There the
installed command says its version and downloads from a stand-in for GEODES, away from the sources.
Then each line of docs/install.md that builds or installs the wheel is run.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from geodes_tasks.model.version import __version__
from tests.standin import KiB, StandIn, digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[1]
VERSIONS = ("3.11", "3.12", "3.13")
KEY = "release-key"
SIZES = (300 * KiB, 1, 700 * KiB)
NO_CLEAN_INDEX = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def main(arguments: Sequence[str]) -> int:
    """Check the release; 1 when something in it is not right."""
    found = list(pythons(arguments))
    missing = sorted(set(VERSIONS) - {version for version, _ in found})
    with tempfile.TemporaryDirectory() as scratch:
        dist = built(Path(scratch))
        run([sys.executable, "-m", "twine", "check", "--strict", *map(str, dist)])
        for version, python in found:
            for package in dist:
                check(Path(scratch), version, python, package)
                say(f"ok: {package.name} with Python {version}")
        check_install_page(Path(scratch), next(one for one in dist if one.suffix == ".whl"))
    for version in missing:
        say(f"not checked: there is no Python {version} here")
    return 0 if found else 1


def say(text: str) -> None:
    """Print at once."""
    print(text, flush=True)


def run(
    command: Sequence[str], cwd: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; what it said is shown when it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=900
    )
    if done.returncode:
        say(f"$ {' '.join(command)}\n{done.stdout}\n{done.stderr}")
        raise SystemExit(f"failed with exit code {done.returncode}")
    return done


# --- Pythons -----------------------------------------------------------------------------------


def pythons(given: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Find one interpreter of each version: those given, else on PATH and of pyenv."""
    kept = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python"))
    known = given or [sys.executable, *(f"python{one}" for one in VERSIONS), *map(str, kept)]
    seen = set()
    for python in known:
        version = version_of(python)
        if version in VERSIONS and version not in seen:
            seen.add(version)
            yield version, python


def version_of(python: str) -> str | None:
    """Ask an interpreter for its version; None when there is none."""
    ask = [python, "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


# --- building ----------------------------------------------------------------------------------


def built(scratch: Path) -> list[Path]:
    """Build sdist and wheel from a copy: a build leaves folders beside the sources."""
    source, dist = scratch / "source", scratch / "dist"
    for name in run(["git", "ls-files", "-z"]).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(source)])
    packages = sorted(dist.iterdir())
    wanted = {f"geodes_tasks-{__version__}.tar.gz", f"geodes_tasks-{__version__}-py3-none-any.whl"}
    if {package.name for package in packages} != wanted:
        raise SystemExit(f"built {packages}, wanted {sorted(wanted)}")
    return packages


# --- one package, one Python -------------------------------------------------------------------


def check(scratch: Path, version: str, python: str, package: Path) -> None:
    """Install a package into an empty environment and use it there."""
    kind = "wheel" if package.suffix == ".whl" else "sdist"
    folder = scratch / f"{version}-{kind}"
    run([python, "-m", "venv", str(folder)])
    install = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet"]
    pins = ["-c", str(ROOT / "constraints.txt")]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run([*install, *pins, str(package)], scratch, clean | NO_CLEAN_INDEX)
    command = str(folder / "bin" / "geodes-tasks")
    said = run([command, "--version"], scratch, clean).stdout
    if said != f"geodes-tasks {__version__}\n":
        raise SystemExit(f"{package.name}: --version says {said!r}")
    download(command, folder, clean)
    shutil.rmtree(folder)


def check_install_page(scratch: Path, wheel: Path) -> None:
    """Run the line of docs/install.md that builds the wheel, and each one that installs it.

    Raises:
        SystemExit: one of them fails, or installs no working command.
    """
    page = (ROOT / "docs" / "install.md").read_text()
    build = re.search(r"^python -m pip wheel .*$", page, re.MULTILINE)
    lines = re.findall(r"^(?:python -m pip|pipx|uv) .*geodes_tasks-.*$", page, re.MULTILINE)
    if build is None or not lines:
        raise SystemExit("docs/install.md names no line that builds or installs the wheel")
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    run(["bash", "-c", build[0]], scratch / "source", os.environ | {"PATH": tools})
    (scratch / "source" / "dist" / wheel.name).stat()
    say(f"ok: {build[0]}")
    for number, line in enumerate(lines):
        folder = scratch / f"line-{number}"
        folder.mkdir()
        shutil.copy(wheel, folder)
        shutil.copy(ROOT / "constraints.txt", folder)
        run([sys.executable, "-m", "venv", str(folder / "venv")])
        tools = f"{folder / 'venv' / 'bin'}:{folder / 'bin'}:{Path(sys.executable).parent}"
        environment = os.environ | NO_CLEAN_INDEX | {
            "PATH": f"{tools}:{os.environ['PATH']}",
            "VIRTUAL_ENV": str(folder / "venv"),
            "PIPX_HOME": str(folder / "pipx"),
            "PIPX_BIN_DIR": str(folder / "bin"),
            "UV_TOOL_DIR": str(folder / "uv"),
            "UV_TOOL_BIN_DIR": str(folder / "bin"),
        }  # fmt: skip
        run(["bash", "-c", line], folder, environment)
        installed = run(["bash", "-c", "command -v geodes-tasks"], folder, environment).stdout
        version = run(["geodes-tasks", "--version"], folder, environment).stdout
        if not installed.startswith(str(folder)) or version != f"geodes-tasks {__version__}\n":
            raise SystemExit(f"{line}: {installed.strip()} is version {version!r}")
        say(f"ok: {line}")
        shutil.rmtree(folder)


def download(command: str, folder: Path, environment: Mapping[str, str]) -> None:
    """Download from a stand-in with the installed command, and prove the files."""
    with StandIn(KEY) as standin:
        items = [standin.add_item(size) for size in SIZES]
        (folder / "items.json").write_text(
            json.dumps({"type": "FeatureCollection", "features": items})
        )
        settings = {
            "GEODES_API_KEY": KEY,
            "GEODES_TASKS_PORTAL_URL": standin.url,
            "GEODES_TASKS_STATE_DIR": str(folder / "state"),
        }
        ask = [command, "download", "items.json", "-o", "out", "--source", "geodes", "--json"]
        told = json.loads(run(ask, folder, {**environment, **settings}).stdout)
        got = {
            hashlib.md5(path.read_bytes()).hexdigest()
            for path in (folder / "out").iterdir()
            if path.is_file()
        }
        right = {digest(standin.body(item)) for item in items}
    if told["states"]["SUCCESS"] != len(SIZES) or got != right:
        raise SystemExit(f"the download is not right: {told}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
