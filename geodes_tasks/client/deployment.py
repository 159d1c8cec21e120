"""Make the secrets of a deployment (Redis, Flower, Grafana) and copy the deployment files."""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
from collections.abc import Sequence
from importlib import metadata
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

from geodes_tasks.errors import ConfigError, DeploymentError
from geodes_tasks.model.atomic_write import replacing
from geodes_tasks.settings.config import Config

USERS = ("worker", "client", "viewer", "flower", "replica", "sentinel")
"""Users of Redis, each with a password and rights of its own."""
COMMANDS = {
    # HELLO and CLIENT name the connection (CLIENT SETINFO is newer than Redis 7.0 and not needed);
    # SELECT chooses the database of the address.
    "connection": "+ping +select +hello +client|setname +client|id +time"
    " +multi +exec +discard +watch +unwatch +wait",
    "ledger_reads": "+get +exists +hget +hmget +hgetall +hlen +hexists +hkeys +hvals +llen +lrange"
    " +lindex +scard +smembers +srandmember +sismember +strlen +zcard +zcount +zrange +zrevrange"
    " +zrangebyscore +zrevrangebyscore +zrangebylex +zlexcount +zscore +zmscore +zrank"
    " +scan +hscan +sscan +zscan +type",
    "ledger_writes": "+set +del +unlink +incr +incrby +expire +pexpire +hset +hsetnx +hdel"
    " +hincrby +lpush +rpush +lpop +rpop +lrem +ltrim +rpoplpush +lpos +rename +sadd +srem +zadd"
    " +zrem +zincrby +zremrangebyscore +zremrangebyrank",
    # kombu sends these to receive messages, to restore those of dead workers, for remote control.
    "broker": "+brpop +lpush +rpush +lpop +rpop +lrem +llen +sadd +srem +smembers +zadd +zrem"
    " +zrevrangebyscore +zrangebyscore +hset +hget +hdel +set +get +exists +del +pexpire +expire"
    " +publish +subscribe +unsubscribe +psubscribe +punsubscribe",
    "scripts": "+evalsha +script|load +script|exists",
}
"""Sets of Redis commands, by their name in the template of the ACL file."""
LISTENED = ("celery.pidbox", "celeryev/worker.*", "celeryev/*")
"""Channels that Celery subscribes to by pattern: an ACL must hold each pattern word for word."""
SHARED = Path("share") / "geodes-tasks"
"""Folder below ``sys.prefix`` into which the wheel installs the deployment files."""


def make_secrets(folder: Path, prefixes: Sequence[str] = ("geodes:",)) -> None:
    """Write the passwords that are missing, and the ACL file of Redis anew.

    An existing password is kept, so the command can be run again; remove its file for a new one.

        <user>/password      for GEODES_TASKS_REDIS_PASSWORD_FILE; readable by its owner alone
        flower/basic-auth    for FLOWER_BASIC_AUTH_FILE: USER:PASSWORD
        grafana/password     of Grafana's user admin
        acl/users.acl        for Redis: aclfile; holds digests of the passwords only

    Args:
        folder: Where to write; made when missing.
        prefixes: GEODES_TASKS_KEY_PREFIX of each installation in this Redis.

    Raises:
        ConfigError: a prefix cannot be used, alone or together with another one.
        DeploymentError: the folder cannot be read or written.
    """
    prefixes = _checked(prefixes)
    try:
        passwords = {user: _kept(folder / user / "password") for user in USERS}
        _kept(folder / "flower" / "basic-auth", f"geodes:{secrets.token_urlsafe(18)}")
        _kept(folder / "grafana" / "password")
        words = {
            user: f"#{hashlib.sha256(password.encode()).hexdigest()}"
            for user, password in passwords.items()
        }
        words["channels"] = " ".join(f"&{p}/0.{name}" for p in prefixes for name in LISTENED)
        # Digests of passwords of this length reveal nothing, and Redis is another system user.
        _write(folder / "acl" / "users.acl", _acl_file(COMMANDS | words, prefixes), 0o644)
    except OSError as error:
        raise DeploymentError(str(error.filename or folder), str(error.strerror)) from error


def _checked(prefixes: Sequence[str]) -> list[str]:
    """Return the prefixes, each once."""
    for prefix in prefixes:
        try:
            Config.key_prefix.parse(prefix)
        except ValueError as error:
            raise ConfigError("--prefix", f"{prefix!r} {error}") from error
    for one, other in pairwise(found := sorted(set(prefixes))):
        # A pattern of Redis cannot leave out the longer one: `client` could take its messages.
        if other.startswith(one):
            problem = f"every key of {other!r} is a key of {one!r} too"
            remedy = "Name prefixes none of which begins with another, as geodes: and geodes-demo:."
            raise ConfigError("--prefix", problem, remedy)
    return found


def _acl_file(words: dict[str, str], prefixes: Sequence[str]) -> str:
    """Return the template as Redis reads it: no comments, one line a user, all prefixes."""
    template = (files("geodes_tasks.client") / "users.acl.template").read_text()
    lines = [line for line in template.splitlines() if line.strip() and line[0] != "#"]
    text = re.sub(r"\n\s+", " ", "\n".join(lines))
    text = re.sub(
        r"\S*\{prefix\}\S*",
        lambda word: " ".join(word[0].replace("{prefix}", prefix) for prefix in prefixes),
        text,
    )
    return text.format_map(words) + "\n"


def _kept(path: Path, new: str = "") -> str:
    """Return the password in a file; write one first when there is none."""
    try:
        password = path.read_text(encoding="utf-8").strip() if path.is_file() else ""
    except UnicodeDecodeError:
        # Not chained: it quotes the file.
        raise DeploymentError(str(path), "not UTF-8 text") from None
    if not password:
        _write(path, password := new or secrets.token_urlsafe(32), 0o400)
    return password


def _write(path: Path, text: str, permissions: int) -> None:
    """Write a file in one step; no other user can read it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, permissions=permissions, encoding="utf-8") as stream:
        stream.write(text)


def copy_deploy_files(folder: Path) -> list[Path]:
    """Copy the files for Slurm, Kubernetes, Compose, systemd and monitoring into a folder.

    Returns:
        The files written, as paths below ``folder``. Existing files with other content are kept:
        the new version is written beside them with the suffix ``.new``.

    Raises:
        DeploymentError: the folder cannot be written, or this installation has no such files.
    """
    written = []
    try:
        for name, source in _deploy_files().items():
            target = folder / name
            if target.exists() and target.read_bytes() != source.read_bytes():
                target = target.with_name(f"{target.name}.new")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)  # a link: shutil.copy would write through it
            shutil.copy(source, target)
            written.append(target)
    except OSError as error:
        raise DeploymentError(str(error.filename or folder), str(error.strerror)) from error
    return written


def _deploy_files() -> dict[str, Path]:
    """Return the path of each deployment file of this installation, by its name in the project."""
    checkout = Path(__file__).parents[2]
    if (checkout / "docker-compose.yml").is_file():
        tops = [
            checkout / name for name in ("docker-compose.yml", ".env.example", "constraints.txt")
        ]
        found = [path for path in (checkout / "deploy").rglob("*") if path.is_file()]
        return {path.relative_to(checkout).as_posix(): path for path in [*tops, *sorted(found)]}
    # pip lists what it installed in RECORD, with paths relative to site-packages (PEP 376), so the
    # files are found wherever the installation put them.
    marker = f"{SHARED.as_posix()}/"
    installed = {
        str(file).partition(marker)[2]: Path(str(file.locate()))
        for file in metadata.files("geodes-tasks") or ()
        if marker in str(file)
    }
    if not installed:
        raise DeploymentError(str(SHARED), "this installation has no deployment files")
    return installed
