#!/usr/bin/env python3
"""Make passwords for the users of Redis, for Flower and Grafana, and the ACL file that goes along.

    python make_secrets.py FOLDER [--example users.acl.example] [--prefix geodes:]...

What is there already is kept, so it is safe to say twice: remove a file to have a new password.

    FOLDER/<user>/password      for GEODES_TASKS_REDIS_PASSWORD_FILE; readable by its owner alone
    FOLDER/flower/basic-auth    for FLOWER_BASIC_AUTH_FILE: USER:PASSWORD
    FOLDER/grafana/password     of Grafana's user admin
    FOLDER/acl/users.acl        for Redis: aclfile; holds digests of the passwords only
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import secrets
from pathlib import Path

USERS = ("worker", "client", "viewer", "flower")
EXAMPLE = Path(__file__).with_name("users.acl.example")

COMMANDS = {
    # HELLO and CLIENT name the connection (CLIENT SETINFO is newer than Redis 7.0, and nobody
    # misses it); SELECT chooses the database of the address.
    "connection": "+ping +select +hello +client|setname +client|id +time"
    " +multi +exec +discard +watch +unwatch",
    "ledger_reads": "+get +exists +hget +hmget +hgetall +hlen +hexists +hkeys +hvals +llen +lrange"
    " +lindex +scard +smembers +sismember +strlen +zcard +zcount +zrange +zrevrange"
    " +zrangebyscore +zrevrangebyscore +zscore +zmscore +zrank +scan +hscan +sscan +zscan +type",
    "ledger_writes": "+set +del +unlink +incr +incrby +expire +pexpire +hset +hsetnx +hdel"
    " +hincrby +lpush +rpush +lpop +rpop +lrem +ltrim +rpoplpush +lpos +rename +sadd +srem +zadd"
    " +zrem +zincrby +zremrangebyscore +zremrangebyrank",
    # What kombu needs to take messages, restore those of dead workers, and speak of both.
    "broker": "+brpop +lpush +rpush +lpop +rpop +lrem +llen +sadd +srem +smembers +zadd +zrem"
    " +zrevrangebyscore +zrangebyscore +hset +hget +hdel +set +get +exists +del +pexpire +expire"
    " +publish +subscribe +unsubscribe +psubscribe +punsubscribe",
    "scripts": "+evalsha +script|load +script|exists",
}
"""Sets of commands by the name that they have in the example."""

LISTENED = ("celery.pidbox", "celeryev/worker.*", "celeryev/*")
"""Channels that are listened to by pattern: an ACL must have such a pattern word for word."""


def main() -> None:
    """Write everything that is missing, and the ACL file anew."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--example", type=Path, default=EXAMPLE)
    parser.add_argument(
        "--prefix", action="append", help="GEODES_TASKS_KEY_PREFIX of an installation below geodes:"
    )
    asked = parser.parse_args()
    folder: Path = asked.folder
    passwords = {user: kept(folder / user / "password") for user in USERS}
    kept(folder / "flower" / "basic-auth", f"geodes:{secrets.token_urlsafe(18)}")
    kept(folder / "grafana" / "password")
    words = {user: f"#{digest(password)}" for user, password in passwords.items()}
    words["channels"] = channels(asked.prefix or ["geodes:"])
    # Digests of passwords as long as these give nothing away, and Redis is another system user.
    write(folder / "acl" / "users.acl", filled(asked.example.read_text(), words), 0o644)


def kept(path: Path, new: str = "") -> str:
    """Give what a file holds; it gets a password when it is not there."""
    if not path.is_file():
        write(path, new or secrets.token_urlsafe(32), 0o400)
    return path.read_text().strip()


def write(path: Path, text: str, mode: int) -> None:
    """Write a file in one step; nobody else can read it at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    scratch.replace(path)


def digest(password: str) -> str:
    """Give what Redis compares a password with."""
    return hashlib.sha256(password.encode()).hexdigest()


def channels(prefixes: list[str]) -> str:
    """Give the channels that workers and Flower listen to, in database 0."""
    return " ".join(f"&{prefix}/0.{name}" for prefix in prefixes for name in LISTENED)


def filled(example: str, words: dict[str, str]) -> str:
    """Turn the example into what Redis reads: no comments, one line a user."""
    lines = [line for line in example.splitlines() if not line.startswith("#")]
    text = re.sub(r"\n\s+", " ", "\n".join(line for line in lines if line.strip()))
    return text.format_map(COMMANDS | words) + "\n"


if __name__ == "__main__":
    main()
