"""In one-machine mode: end the worker and the private server when their command has died."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time

from geodes_tasks.ledger import Ledger
from geodes_tasks.ledger.checks import run_id
from geodes_tasks.tasks.loop_guard import LoopGuard
from geodes_tasks.tasks.process import worker_process
from geodes_tasks.tasks.stop_signal import STOP

logger = logging.getLogger(__name__)

POLL_S = 0.5
"""Time in seconds between two checks of the parent process."""
PATIENCE_S = 10.0
"""Time in seconds in which running downloads may requeue themselves."""


class ParentWatch(threading.Thread):
    """Waits for the parent process to die, and cleans up after it: no process stays behind."""

    def __init__(self, parent_pid: int, ledger: Ledger) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="parent-watch", daemon=True)
        self.parent_pid, self.ledger = parent_pid, ledger
        self._guard = LoopGuard(logger, "ending this worker after its command")

    def run(self) -> None:
        """Watch until the parent has died and the clean-up has started."""
        server = self._server_id()
        # The parent of an orphan is init or a subreaper (prctl(2)), never the old parent again.
        while os.getppid() == self.parent_pid:
            time.sleep(POLL_S)
        logger.warning("the command that started this worker is gone: it ends too")
        cleaner = None
        while cleaner is None:
            # Starting a thread fails at the limit of threads: without a retry the worker stays.
            with self._guard:
                # Not a daemon: the interpreter waits for it, however soon Celery has shut down.
                thread = threading.Thread(target=self._clean_up, args=(server,), daemon=False)
                thread.start()
                cleaner = thread
            time.sleep(0.0 if cleaner else POLL_S)

    def _clean_up(self, server: str | None) -> None:
        """Requeue the downloads, then end the server and this process."""
        try:
            STOP.set(0.0)
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_S
            # Until the other workers of the run are done too: they have the same server.
            while (
                worker_process().keeper.attempts or self.ledger.dispatch.workers()
            ) and time.monotonic() < deadline:
                time.sleep(POLL_S)
            # The same command, run again, may have a new server at this address already.
            if server is not None and self._server_id() == server:
                self.ledger.connection.end_server()
        except Exception:
            logger.exception("the private server may still run")
        finally:
            os._exit(0)

    def _server_id(self) -> str | None:
        """Return the id of the server's process; None if it does not answer."""
        with contextlib.suppress(Exception):
            return run_id(self.ledger.connection)
        return None
