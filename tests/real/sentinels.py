"""A Redis with two replicas and three Sentinels, all real programs on this machine."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis

from geodes_tasks.client.deployment import make_secrets
from geodes_tasks.settings.config import Config
from tests.servers import HOST, Process, free_port, wait_until
from tests.standin.tls import make_certificate
from tests.tools import need

MASTER = "geodes"
"""Name of the primary in the Sentinels' settings."""
DOWN_AFTER_MS = 5000
"""Milliseconds without an answer after which a Sentinel holds a server for dead."""
SENTINEL_LOGIN = ("watcher", "word of the Sentinels & more")
"""User and password of the secured Sentinels; the characters need quoting in an address."""


class Sentinels:
    """Three servers with the users of ``geodes-tasks secrets``, and three Sentinels."""

    def __init__(self, folder: Path, *, is_secured: bool = False) -> None:
        """Choose ports and write the files of settings; nothing runs yet.

        ``is_secured``: all six speak TLS only, and the Sentinels want a login of their own.
        """
        self.folder, self.secrets = folder, folder / "secrets"
        self.certificate = make_certificate(folder) if is_secured else None
        make_secrets(self.secrets)
        self.ports = [free_port() for _ in range(3)]
        self.sentinel_ports = [free_port() for _ in range(3)]
        self.servers = [Process(folder / f"redis-{port}.log") for port in self.ports]
        self.sentinels = [Process(folder / f"sentinel-{port}.log") for port in self.sentinel_ports]

    def password(self, user: str) -> str:
        """Return the password of a user of Redis."""
        return (self.secrets / user / "password").read_text()

    @property
    def url(self) -> str:
        """The address for workers and clients, without a login to Redis."""
        hosts = ";".join(f"{HOST}:{port}" for port in self.sentinel_ports)
        user, password = map(quote, SENTINEL_LOGIN)
        secured = f"&ssl=true&sentinel_username={user}&sentinel_password={password}"
        return f"sentinel://{hosts}/0?master_name={MASTER}{secured if self.certificate else ''}"

    def url_of(self, user: str) -> str:
        """Return the address with the login of a user."""
        return self.url.replace("//", f"//{user}:{self.password(user)}@", 1)

    def settings(self, user: str, like: Config, **changes: Any) -> Config:
        """Return settings that reach these servers as a user."""
        return like.replace(redis_url=self.url_of(user), ca_bundle=self.certificate, **changes)

    def start(self) -> None:
        """Start all six, and wait until each Sentinel knows the others and both replicas."""
        server, sentinel = (
            need("redis-server", "redis-server"),
            need("redis-sentinel", "redis-sentinel"),
        )
        first = self.ports[0]
        for port, process in zip(self.ports, self.servers, strict=True):
            lines = [
                *self._listen(port), 'save ""', "appendonly yes",
                "maxmemory-policy noeviction", "repl-diskless-sync-delay 0",
                f"aclfile {self.secrets / 'acl' / 'users.acl'}",
                "masteruser replica", f"masterauth {self.password('replica')}",
                *([f"replicaof {HOST} {first}"] if port != first else []),
            ]  # fmt: skip
            self._spawn(process, server, port, lines)
        wait_until(lambda: self.replicas_of(first) == 2, 90, "two replicas")
        for port, process in zip(self.sentinel_ports, self.sentinels, strict=True):
            lines = [
                *self._listen(port), *self._login(),
                f"sentinel monitor {MASTER} {HOST} {first} 2",
                f"sentinel auth-user {MASTER} sentinel",
                f"sentinel auth-pass {MASTER} {self.password('sentinel')}",
                f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}",
                f"sentinel failover-timeout {MASTER} 20000",
            ]  # fmt: skip
            self._spawn(process, sentinel, port, lines)
        wait_until(self._know_each_other, 60, "Sentinels that know each other")

    def _listen(self, port: int) -> list[str]:
        """Return the settings of the address that a server or Sentinel listens on."""
        lines = [f"bind {HOST}", f"dir {self._folder_of(port)}"]
        if (pem := self.certificate) is None:
            return [f"port {port}", *lines]
        return [
            "port 0", f"tls-port {port}", "tls-replication yes", "tls-auth-clients no",
            f"tls-cert-file {pem}", f"tls-key-file {pem}", f"tls-ca-cert-file {pem}", *lines,
        ]  # fmt: skip

    def _login(self) -> list[str]:
        """Return the settings of the Sentinels' own user, whom clients and Sentinels log in as."""
        if self.certificate is None:
            return []
        user, password = SENTINEL_LOGIN
        digest = hashlib.sha256(password.encode()).hexdigest()
        return [
            "user default off resetpass", f"user {user} on #{digest} allchannels +@all",
            f"sentinel sentinel-user {user}", f'sentinel sentinel-pass "{password}"',
        ]  # fmt: skip

    def _folder_of(self, port: int) -> Path:
        folder = self.folder / str(port)
        folder.mkdir(exist_ok=True)
        return folder

    def _spawn(self, process: Process, program: str, port: int, lines: list[str]) -> None:
        # Redis and Sentinel rewrite their own file: at a failover, and to remember each other.
        file = self._folder_of(port) / "settings.conf"
        if not file.exists():
            file.write_text("\n".join([*lines, ""]))
        process.spawn([program, str(file)])

    def client(self, port: int, user: str = "viewer") -> Any:
        """Return a client of one server."""
        return self._redis(port, user, self.password(user))

    def _redis(self, port: int, user: str | None, password: str | None) -> Any:
        tls: dict[str, Any] = (
            {"ssl": True, "ssl_ca_certs": str(self.certificate)} if self.certificate else {}
        )
        return redis.Redis(
            HOST, port, username=user, password=password, decode_responses=True, socket_timeout=5,
            **tls,
        )  # fmt: skip

    def sentinel(self, port: int) -> Any:
        """Return a client of one Sentinel."""
        return self._redis(port, *(SENTINEL_LOGIN if self.certificate else (None, None)))

    def replicas_of(self, port: int) -> int:
        """Return how many replicas are in step with a server."""
        with contextlib.suppress(redis.RedisError), self.client(port) as client:
            facts = client.info("replication")
            return sum(facts.get(f"slave{n}", {}).get("state") == "online" for n in range(2))
        return 0

    def _know_each_other(self) -> bool:
        with contextlib.suppress(redis.RedisError):
            for port in self.sentinel_ports:
                with self.sentinel(port) as client:
                    state = client.sentinel_master(MASTER)
                    if (state["num-other-sentinels"], state["num-slaves"]) != (2, 2):
                        return False
            return True
        return False

    def primary(self) -> int:
        """Return the port of the primary, as most Sentinels have it."""
        found = []
        for port in self.sentinel_ports:
            with contextlib.suppress(redis.RedisError), self.sentinel(port) as client:
                found.append(int(client.sentinel_get_master_addr_by_name(MASTER)[1]))
        return max(found, key=found.count)

    def process_of(self, port: int) -> Process:
        """Return the process of a server."""
        return self.servers[self.ports.index(port)]

    def restart(self, port: int) -> None:
        """Start a dead server again with the settings that it had."""
        self._spawn(self.process_of(port), need("redis-server", "redis-server"), port, [])

    def stop(self) -> None:
        """End all that still run."""
        for process in [*self.sentinels, *self.servers]:
            process.stop()


@contextlib.contextmanager
def running_sentinels(folder: Path, *, is_secured: bool = False) -> Iterator[Sentinels]:
    """Start servers and Sentinels; end them after the block."""
    sentinels = Sentinels(folder, is_secured=is_secured)
    try:
        sentinels.start()
        yield sentinels
    finally:
        sentinels.stop()
