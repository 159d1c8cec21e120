"""What is wrong with the set-up, and how to mend it: one line a check, no download spent."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodes_tasks.client.doctor_portal import portal_checks, s3_checks
from geodes_tasks.client.local_server import server_binary
from geodes_tasks.client.run import has_cluster
from geodes_tasks.errors import ConfigError, GeodesTasksError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.model.version import __version__
from geodes_tasks.transfer import disk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodes_tasks.settings.config import Settings

SKEW_S = 5.0
"""Clocks further apart make due times and leases hard to read, and TLS fail in the end."""
DEFAULT_USER = "user default off resetpass allkeys allchannels +@all"
"""Line of the ACL file that closes `default` and leaves it the rights to replay the append-only
file; with fewer, writes of scripts are dropped (redis/redis#14541, valkey-io/valkey#3983)."""
UNUSED = {"-@admin", "-@dangerous"}
"""Categories of which the ledger writes with no command: `default` may be without them."""
LOW_BYTES = 10e9
SHARED = {"nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3", "fuse.sshfs"}
VOLATILE = {"tmpfs", "ramfs", "overlay"}


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    """Downloads work, with a risk or without some comfort."""
    PROBLEM = "problem"
    """Downloads will not work."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line."""

    name: str
    level: Level
    text: str
    mend: str = ""
    """What to do about it; empty when nothing is to be done."""

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)


def examine(settings: Settings) -> Iterator[Check]:
    """Look at everything, one check after the other; nothing that fails stops the rest."""
    yield Check("version", Level.OK, f"geodes-tasks {__version__}")
    parts: tuple[Callable[[Settings], Iterator[Check]], ...] = (_redis, _portal, _s3, _folder)
    for part in parts:
        try:
            yield from part(settings)
        except GeodesTasksError as error:
            yield Check(part.__name__.strip("_"), Level.PROBLEM, str(error), error.hint)


# --- Redis and workers ---------------------------------------------------------------------------


def _redis(settings: Settings) -> Iterator[Check]:
    if not has_cluster(settings):
        yield Check("redis", Level.OK, f"one-machine mode brings its own: {server_binary()}")
        return
    ledger = Ledger.of(settings)
    begun = time.monotonic()
    ledger.connection.ping()
    ms = 1000 * (time.monotonic() - begun)
    yield Check("redis", Level.OK, f"answers in {ms:.0f} ms")
    yield from _kept(ledger)
    yield from _replayed(ledger)
    yield skew("clock of redis", ledger.connection.server_time() - time.time())
    yield from _workers(ledger)


def _kept(ledger: Ledger) -> Iterator[Check]:
    """Tell whether the server keeps what it is given."""
    facts = _facts(ledger)
    if facts is None:
        yield Check(
            "redis persistence", Level.WARNING, "this user may not read INFO: not checked",
            "Allow the command INFO to this Redis user.",
        )  # fmt: skip
        return
    if int(facts.get("aof_enabled", 0)):
        yield Check("redis persistence", Level.OK, "append-only file")
    else:
        text = "no append-only file: a crash loses the queue since the last snapshot"
        yield Check("redis persistence", Level.WARNING, text, "Set `appendonly yes` in redis.conf.")
    policy = str(facts.get("maxmemory_policy", "noeviction"))
    if policy == "noeviction":
        yield Check("redis eviction", Level.OK, "noeviction")
    else:
        text = f"{policy}: Redis may throw records away when its memory is full"
        yield Check("redis eviction", Level.PROBLEM, text, "Set `maxmemory-policy noeviction`.")


def _replayed(ledger: Ledger) -> Iterator[Check]:
    """Check the rights of the user as which the server replays its append-only file."""
    name = "redis restart"
    user = _permitted(ledger, lambda: ledger.connection.client.acl_getuser("default"))
    if user is None:
        text = f"not allowed to look (ACL GETUSER default): its line must be `{DEFAULT_USER}`"
        yield Check(name, Level.OK, text)
    elif (
        user["categories"][:1] == ["+@all"]
        and UNUSED.issuperset(user["categories"][1:])
        and {"~*", f"~{ledger.connection.prefix}*"} & set(user["keys"])
    ):
        yield Check(name, Level.OK, "the user `default` may replay the append-only file")
    else:
        text = "the user `default` lacks rights: most servers then lose the ledger at a restart"
        mend = f"Put this line into the ACL file, then restart Redis: {DEFAULT_USER}"
        yield Check(name, Level.PROBLEM, text, mend)


def _facts(ledger: Ledger) -> Mapping[str, Any] | None:
    info = ledger.connection.client.info
    return _permitted(ledger, lambda: {**info("persistence"), **info("memory")})


def _permitted(
    ledger: Ledger, command: Callable[[], Mapping[str, Any]]
) -> Mapping[str, Any] | None:
    """Return the reply to a command; None where this user may not send it or Redis lacks it."""
    with ledger.connection.commands():
        try:
            return command()
        except Exception as error:
            # The client's own class for a refusal is behind the ledger's door.
            if type(error).__name__ in {"ResponseError", "NoPermissionError"}:
                return None
            raise


def _workers(ledger: Ledger) -> Iterator[Check]:
    workers = ledger.dispatch.workers()
    if not workers:
        yield Check(
            "workers", Level.WARNING, "none is alive: nothing will be downloaded",
            "Start one: geodes-tasks worker",
        )  # fmt: skip
        return
    slots = sum(workers.values())
    yield Check("workers", Level.OK, f"{len(workers)} alive with {slots} slots")
    for name in sorted(workers):
        if folder := ledger.dispatch.closed_by(name):
            text = f"{name} takes no work: it cannot write to {folder}"
            yield Check("workers", Level.PROBLEM, text, "Make room there, or give it the right.")
    yield from _versions(ledger, sorted(workers))


def _versions(ledger: Ledger, names: list[str]) -> Iterator[Check]:
    with ledger.connection.commands():
        told = [
            ledger.connection.client.hget(ledger.connection.key("worker", name), "version")
            for name in names
        ]
    others = {name: version for name, version in zip(names, told, strict=True) if version}
    wrong = [f"{name} {version}" for name, version in others.items() if version != __version__]
    if wrong:
        text = f"not of this version ({__version__}): {', '.join(wrong)}"
        yield Check("versions", Level.WARNING, text, "Install one version everywhere.")
    elif len(others) == len(names):
        yield Check("versions", Level.OK, f"all workers are {__version__}")


def skew(name: str, seconds: float) -> Check:
    """Judge how far another clock is ahead of this one."""
    text = f"{abs(seconds):.1f} s {'ahead of' if seconds > 0 else 'behind'} this machine"
    if abs(seconds) <= SKEW_S:
        return Check(name, Level.OK, text)
    return Check(name, Level.WARNING, text, "Let both machines take their time from NTP.")


# --- portal, S3 ----------------------------------------------------------------------------------


def _portal(settings: Settings) -> Iterator[Check]:
    for name, level, text, mend in portal_checks(settings):
        yield Check(name, Level(level), text, mend)


def _s3(settings: Settings) -> Iterator[Check]:
    for name, level, text, mend in s3_checks(settings):
        yield Check(name, Level(level), text, mend)


# --- folder --------------------------------------------------------------------------------------


def _folder(settings: Settings) -> Iterator[Check]:
    folder = settings.download_dir.expanduser().absolute()
    # Looked at, not made: whoever only asks leaves no folder behind.
    there = next(path for path in (folder, *folder.parents) if path.exists())
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
        yield Check("folder", Level.WARNING, f"{text}: gone with this machine", "Choose another.")
    else:
        shared = ": shared, so all workers may use it" if kind in SHARED else ""
        yield Check("folder", Level.OK, text + shared)
    yield from _state_folder(settings)


def _state_folder(settings: Settings) -> Iterator[Check]:
    """In one-machine mode the private ledger lies on a disk too."""
    if has_cluster(settings):
        return
    state = settings.state_dir.expanduser().absolute()
    there = next(path for path in (state, *state.parents) if path.is_dir())
    if not os.access(there, os.W_OK):
        error = ConfigError("GEODES_TASKS_STATE_DIR", f"{state} cannot be written to")
        yield Check("state", Level.PROBLEM, str(error), "Set GEODES_TASKS_STATE_DIR elsewhere.")
    else:
        yield Check("state", Level.OK, f"{state} ({file_system(there)})")


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Name the file system that a path lies on; ``unknown`` where nothing tells.

    Source: proc_pid_mountinfo(5): the mount point is field 5, the type the first after `-`.
    """
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return "unknown"
    best, kind = -1, "unknown"
    for line in lines:
        left, _, right = line.partition(" - ")
        point = left.split()[4].replace("\\040", " ")
        if path.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), right.split()[0]
    return kind
