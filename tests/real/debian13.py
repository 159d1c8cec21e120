"""Servers of Debian 13 on an older system: Redis 8 and Valkey 8, fetched and run without a chroot.

``python -m tests.real.debian13 FOLDER`` prints the path of each server.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = "deb http://deb.debian.org/debian trixie main\n"
PACKAGES = ("redis-server", "valkey-server")
"""The packages, each named for its server."""
PATIENCE_S = 240.0
"""Seconds that a call of apt may take."""


class CannotFetchError(RuntimeError):
    """The packages cannot be had here; the text says why."""


def fetch(folder: Path) -> dict[str, Path]:
    """Download the servers with the libraries they need; return a program for each.

    Nothing of this system changes: apt gets lists, cache and state of its own.

    Raises:
        CannotFetchError: there is no apt, or no way to Debian's servers.
    """
    root, debs = folder / "root", folder / "debs"
    for part in ("lists/partial", "debs/partial", "state", "root"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "sources.list").write_text(SOURCE)
    (folder / "state" / "status").touch()
    settings = {
        "Dir::Etc::sourcelist": folder / "sources.list", "Dir::Etc::sourceparts": "-",
        "Dir::State": folder / "state", "Dir::State::status": folder / "state" / "status",
        "Dir::State::lists": folder / "lists", "Dir::Cache": folder,
        "Dir::Cache::archives": debs, "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "-qq", "update")
    install = ["-y", "-qq", "--no-install-recommends", "--download-only", "install"]
    _run("apt-get", *options, *install, *PACKAGES)
    for package in sorted(debs.glob("*.deb")):
        _run("dpkg", "-x", str(package), str(root))
    return {name: _program(folder, root, name) for name in PACKAGES}


def _program(folder: Path, root: Path, name: str) -> Path:
    """Write a script that runs a server with the libraries it was fetched with."""
    loader = next(root.glob("usr/lib*/ld-linux-*"))
    libraries = next(root.glob("usr/lib/*-linux-gnu"))
    program = folder / name
    # The server and its tools are one program, which its own name tells what to be.
    program.write_text(
        f"#!/bin/sh\nexec {loader} --argv0 {name} --library-path {libraries} "
        f'{root / "usr" / "bin" / name} "$@"\n'
    )
    program.chmod(0o755)
    return program


def _run(*command: str) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=PATIENCE_S)
    except FileNotFoundError as error:
        raise CannotFetchError(f"there is no {command[0]}") from error
    except subprocess.CalledProcessError as error:
        raise CannotFetchError(f"{command[0]}: {error.stderr.strip()[-300:]}") from error
    except subprocess.TimeoutExpired as error:
        raise CannotFetchError(f"{command[0]} did not end in {PATIENCE_S:g} s") from error


if __name__ == "__main__":
    for server in fetch(Path(sys.argv[1])).values():
        print(server)
