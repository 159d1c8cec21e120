"""Several hosts on one machine: network namespaces on a bridge, each with its host name."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from geodes_tasks.settings.config import Config
from tests.servers import RedisServer, WorkerProcess
from tests.tools import absent, need

NETWORK = "10.77.{}"
"""Start of the addresses; a number for each network is filled in."""


class Network:
    """A bridge, this machine on it, and hosts that reach one another through it."""

    def __init__(self, count: int) -> None:
        """Choose names and addresses of ``count`` hosts; nothing is made yet."""
        # The kernel's names of interfaces have at most 15 characters.
        self._mark = f"{os.getpid() % 0xFFFF:x}"
        self.bridge = f"gtb{self._mark}"
        prefix = NETWORK.format(os.getpid() % 250)
        self.address = f"{prefix}.1"
        self.hosts = [f"gt{self._mark}-{number}" for number in range(1, count + 1)]
        self._addresses = {name: f"{prefix}.{10 + n}" for n, name in enumerate(self.hosts)}

    def make(self) -> None:
        """Create bridge and namespaces; skip where this user or kernel cannot."""
        need("iproute2", "ip")
        if os.geteuid() or self._run("ip", "link", "add", self.bridge, "type", "bridge"):
            absent("only root, on a kernel with bridges, can make network namespaces")
        self._must("ip", "address", "add", f"{self.address}/24", "dev", self.bridge)
        self._must("ip", "link", "set", self.bridge, "up")
        for name in self.hosts:
            outer, inner = f"{name}o", f"{name}i"
            self._must("ip", "netns", "add", name)
            self._must("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
            self._must("ip", "link", "set", outer, "master", self.bridge, "up")
            self._must("ip", "link", "set", inner, "netns", name)
            self._in(name, "ip", "address", "add", f"{self._addresses[name]}/24", "dev", inner)
            self._in(name, "ip", "link", "set", inner, "up")
            self._in(name, "ip", "link", "set", "lo", "up")
        # A firewall of containers may drop what is forwarded between the ports of a bridge.
        self._run("iptables", "-I", "FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT")

    def remove(self) -> None:
        """Remove all that was made."""
        self._run("iptables", "-D", "FORWARD", "-i", self.bridge, "-o", self.bridge, "-j", "ACCEPT")
        for name in self.hosts:
            self._run("ip", "netns", "del", name)
            self._run("ip", "link", "del", f"{name}o")
        self._run("ip", "link", "del", self.bridge)

    def cut(self, name: str) -> None:
        """Take a host off the network."""
        self._must("ip", "link", "set", f"{name}o", "down")

    def join(self, name: str) -> None:
        """Put a host back on the network."""
        self._must("ip", "link", "set", f"{name}o", "up")

    def lose(self, name: str, share: float) -> None:
        """Drop a share of the packets that a host receives."""
        need("iptables", "iptables")
        words = ["-A", "INPUT", "-m", "statistic", "--mode", "random"]
        self._in(name, "iptables", *words, "--probability", str(share), "-j", "DROP")

    def _in(self, name: str, *command: str) -> None:
        self._must("nsenter", f"--net=/run/netns/{name}", *command)

    def _must(self, *command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)

    def _run(self, *command: str) -> int:
        return subprocess.run(command, check=False, capture_output=True).returncode


class OpenRedis(RedisServer):
    """A server that hosts of the network reach, without a password."""

    def __init__(self, folder: Path, network: Network) -> None:
        """Prepare; nothing runs yet."""
        super().__init__(folder)
        self._network = network

    def _command(self) -> list[str]:
        return [*super()._command(), "--bind", "127.0.0.1", self._network.address,
                "--protected-mode", "no"]  # fmt: skip

    @property
    def url(self) -> str:
        """Its address on the network."""
        return f"redis://{self._network.address}:{self.port}/0"


class HostWorker(WorkerProcess):
    """A worker on one host: in its network, with its host name."""

    def __init__(
        self, settings: Config, folder: Path, host: str, *, before: str = "", env: dict[str, str]
    ) -> None:
        """Prepare; nothing runs yet.

        Args:
            settings: What it reads from its environment.
            folder: Where its log goes.
            host: Its namespace, which is also its host name.
            before: Shell command run on the host first, in a mount namespace of its own.
            env: More variables.
        """
        super().__init__(settings, folder / host, name=host, env=env)
        script = f'hostname {host}; {before or ":"}; exec "$@"'
        self._command = [
            "nsenter", f"--net=/run/netns/{host}", "unshare", "--uts", "--mount",
            "sh", "-ec", script, "sh", *self._command,
        ]  # fmt: skip


class LateRelay:
    """A relay that passes each piece on after a delay, as a distant network does."""

    def __init__(self, listen: str, target: tuple[str, int], delay_s: float) -> None:
        """Listen at once; connections are relayed in threads."""
        self._listener = socket.create_server((listen, 0))
        self.port = int(self._listener.getsockname()[1])
        self._target, self._delay_s = target, delay_s
        self._links: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more connections, and end those that there are."""
        for link in (self._listener, *self._links):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                self._links += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._relay, args=(source, target), daemon=True).start()

    def _relay(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                time.sleep(self._delay_s)
                target.sendall(piece)
        for link in (source, target):
            with contextlib.suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def running(workers: Sequence[HostWorker]) -> Iterator[None]:
    """Start workers, wait until all take messages, and end them after the block."""
    try:
        for one in workers:
            one.start(wait=False)
        for one in workers:
            one.wait_for(" ready.", 90)
        yield
    finally:
        for one in workers:
            one.kill()
