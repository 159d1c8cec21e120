"""A real Slurm of two nodes on this host: munged, slurmctld and two slurmd, without cgroups."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tests.servers import Process, ServerError, free_port, wait_until
from tests.tools import need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType

KILL_WAIT_S = 30
"""Seconds between SIGTERM and SIGKILL at ``scancel JOB``, as Slurm itself has it."""
START_S = 60
"""Seconds that a daemon may take to answer on a busy machine."""
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
"""Job states that do not change any more."""

CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=10
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/controller
SlurmdSpoolDir={folder}/node-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
ReturnToService=2
KillWait={kill_wait}
MailProg=/bin/true
NodeName=DEFAULT CPUs=16 RealMemory=16000 State=UNKNOWN
NodeName={host} NodeAddr=127.0.0.1 Port={ports[0]}
NodeName=localhost NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]}
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:8
"""


class Slurm:
    """The three daemons, each a child of this process."""

    def __init__(self) -> None:
        """Find the programs; nothing runs yet."""
        self._munged = need("munge", "munged")
        self._controller, self._node = (need("slurm-wlm", name) for name in ("slurmctld", "slurmd"))
        # Not below pytest's folder: a socket's path may have 107 characters only.
        self._home = tempfile.TemporaryDirectory(prefix="slurm-")
        self.folder = Path(self._home.name)
        self._daemons: list[Process] = []
        # Two names that resolve: the job's own Redis is reached by the name of its node.
        self._nodes: dict[str, Process] = {}

    @property
    def env(self) -> dict[str, str]:
        """The variable that points Slurm's commands at this cluster."""
        return {"SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(
        self, *command: str, env: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> str:
        """Run one of Slurm's commands and return its output.

        Raises:
            subprocess.CalledProcessError: the command failed.
        """
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=60,
            cwd=cwd, env=dict(env or os.environ) | self.env,
        )  # fmt: skip
        return done.stdout.strip()

    def submit(
        self, script: Path, *words: str, options: tuple[str, ...], env: Mapping[str, str],
        cwd: Path, log: Path,
    ) -> Job:  # fmt: skip
        """Submit a script with ``sbatch`` from a folder."""
        command = ("sbatch", "--parsable", f"--output={log}", *options, str(script), *words)
        number = self.run(*command, env=env, cwd=cwd)
        return Job(self, number, log)

    def __enter__(self) -> Self:
        """Start the daemons, and wait until the node takes jobs."""
        for name in ("munge", "controller"):
            (self.folder / name).mkdir(mode=0o755)
        key = self.folder / "munge" / "key"
        key.write_bytes(secrets.token_bytes(1024))
        key.chmod(0o400)
        host = socket.gethostname().partition(".")[0]
        (self.folder / "slurm.conf").write_text(CONF.format(
            host=host, folder=self.folder, kill_wait=KILL_WAIT_S,
            controller_port=free_port(), ports=[free_port(), free_port()],
        ))  # fmt: skip
        munge = self.folder / "munge"
        # --force: its folder is below /tmp, where others may write.
        self._spawn(
            self._munged, "--foreground", "--force", f"--key-file={key}",
            f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--seed-file={munge}/seed",
            f"--log-file={munge}/log",
        )  # fmt: skip
        try:
            wait_until((munge / "socket").exists, START_S, "munged")
            self._spawn(self._controller, "-D", "-f", self.env["SLURM_CONF"])
            for name in (host, "localhost"):
                self._nodes[name] = self._spawn_node(name)
            wait_until(self._is_idle, START_S, "nodes that take jobs")
        except BaseException:
            print("\n".join(daemon.text[-3000:] for daemon in self._daemons))
            self._end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what still runs, then stop the daemons."""
        try:
            self.run("scancel", "--full", f"--user={os.getuid()}")
            wait_until(lambda: not self.run("squeue", "--noheader"), START_S, "an empty queue")
        finally:
            self._end()

    @contextlib.contextmanager
    def lost_node(self, job: Job) -> Iterator[None]:
        """Lose the node of a job, whose processes run on; then end them and give the node back."""
        name, pids = job.shown("BatchHost"), set(job.processes(""))
        # Their parents are the daemons of the job's steps, which would wait for slurmctld for ever.
        pids |= {pid for one in pids if "slurmstepd" in command_of(pid := parent_of(one))}
        self._nodes[name].kill()
        self.run("scontrol", "update", f"NodeName={name}", "State=DOWN", "Reason=lost")
        try:
            yield
        finally:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._nodes[name] = self._spawn_node(name)
            with contextlib.suppress(subprocess.CalledProcessError):  # it may be back by itself
                self.run("scontrol", "update", f"NodeName={name}", "State=RESUME")
            wait_until(self._is_idle, START_S, "the node again")

    def _spawn_node(self, name: str) -> Process:
        return self._spawn(self._node, "-D", "-N", name, "-f", self.env["SLURM_CONF"])

    def _spawn(self, program: str, *words: str) -> Process:
        daemon = Process(self.folder / f"{Path(program).name}-{len(self._daemons)}.log")
        daemon.spawn([program, *words], env=os.environ | self.env)
        self._daemons.append(daemon)
        return daemon

    def _end(self) -> None:
        for daemon in reversed(self._daemons):
            daemon.stop()
        self._home.cleanup()

    def _is_idle(self) -> bool:
        with contextlib.suppress(subprocess.CalledProcessError):
            return self.run("sinfo", "--noheader", "--Node", "--format=%T").split() == ["idle"] * 2
        return False


class Job:
    """A job, or one task of an array, that was submitted."""

    def __init__(self, slurm: Slurm, number: str, log: Path) -> None:
        """Name it by its number; its output is in ``log``."""
        self.slurm, self.number, self.log = slurm, number, log

    @property
    def text(self) -> str:
        """Its output so far."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def shown(self, field: str) -> str:
        """Return one field of ``scontrol show job``."""
        found = re.search(
            rf"\b{field}=(\S+)", self.slurm.run("scontrol", "show", "job", self.number)
        )
        return found[1] if found else ""

    @property
    def state(self) -> str:
        """Its state, as Slurm names it."""
        return self.shown("JobState")

    def wait(self, timeout_s: float) -> tuple[str, str]:
        """Wait for its end; return its state and its exit code with the signal, such as ``0:0``.

        Raises:
            ServerError: it did not end in time.
        """
        self._until(lambda: self.state in OVER, timeout_s, "its end")
        return self.state, self.shown("ExitCode")

    def wait_for(self, words: str, timeout_s: float, *, times: int = 1) -> None:
        """Wait until its output has the words.

        Raises:
            ServerError: it has not in time.
        """
        self._until(lambda: self.text.count(words) >= times, timeout_s, repr(words))

    def _until(self, condition: Callable[[], bool], timeout_s: float, what: str) -> None:
        try:
            wait_until(condition, timeout_s, what)
        except ServerError as error:
            raise ServerError(f"{error}; the job is {self.state}, its log: {self.text}") from None

    def cancel(self, *options: str) -> None:
        """Run ``scancel`` on it."""
        self.slurm.run("scancel", *options, self.number)

    def processes(self, words: str) -> Iterator[int]:
        """Yield the process ids of this job whose command line has the words."""
        listed = self.slurm.run("scontrol", "listpids", self.number, self.shown("BatchHost"))
        for line in listed.splitlines()[1:]:
            pid = line.split()[0]
            with contextlib.suppress(OSError):
                if words in command_of(int(pid)):
                    yield int(pid)

    def kill(self, words: str, sent: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the processes whose command line has the words; return how many."""
        found = list(self.processes(words))
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sent)
        return len(found)


def command_of(pid: int) -> str:
    """Return the command line of a process."""
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def parent_of(pid: int) -> int:
    """Return the id of a process's parent."""
    (parent,) = re.findall(r"^PPid:\s+(\d+)$", Path(f"/proc/{pid}/status").read_text(), re.M)
    return int(parent)


def command_lines() -> set[str]:
    """Return the command lines of all processes, as every user of a node sees them."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found
