"""What small files cost a worker of the package on ``PYTHONPATH``; says seconds a file.

Its argument is a JSON file: settings as variables, items, a folder, the slots, the rounds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import geodes_tasks

READY_S, POLL_S = 30.0, 0.02


def used_s(pid: int) -> float:
    """Give the processor seconds of a process so far (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main(spec: dict[str, Any]) -> list[float]:
    """Give the processor seconds a file of each round but the first one, which warms up."""
    items, folder, found = spec["items"], Path(spec["folder"]), list[float]()
    os.environ |= spec["variables"]
    command = [sys.executable, "-m", "celery", "-A", "worker", "worker", "--pool", "threads"]
    command += ["--concurrency", str(spec["slots"]), "--loglevel", "INFO"]
    log = folder / "worker.log"
    with log.open("wb") as output:
        worker = subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
        try:
            deadline = time.monotonic() + READY_S
            while " ready." not in log.read_text():
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(POLL_S)
            for number in range(int(spec["rounds"]) + 1):
                before = used_s(worker.pid)
                batch = geodes_tasks.enqueue(items, download_dir=folder / f"files-{number}")
                while (status := batch.status()).unfinished:
                    time.sleep(POLL_S)
                assert status.states["SUCCESS"] == len(items), status
                found.append((used_s(worker.pid) - before) / len(items))
        finally:
            worker.terminate()
            worker.wait()
    return found[1:]


if __name__ == "__main__":
    print(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
