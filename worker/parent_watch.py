"""In one-machine mode: end, and end the private server, when the command that began it is gone."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

from geodes_tasks.ledger.checks import run_id
from geodes_tasks.tasks.task import STOP, desk

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger

logger = logging.getLogger(__name__)

POLL_S = 0.5
PATIENCE_S = 10.0
"""How long downloads have to give themselves back."""


class OrphanWatch(threading.Thread):
    """Waits for the parent process to die, and cleans up after it: nothing stays running."""

    def __init__(self, parent_pid: int, ledger: Ledger) -> None:
        """Prepare; ``start()`` begins."""
        super().__init__(name="orphan", daemon=True)
        self.parent_pid, self.ledger = parent_pid, ledger

    def run(self) -> None:
        """Watch."""
        server = self._server()
        while os.getppid() == self.parent_pid:
            time.sleep(POLL_S)
        logger.warning("the command that started this worker is gone: it ends too")
        # Not a daemon: the interpreter waits for it, however soon Celery's own shutdown is over.
        threading.Thread(target=self._clean_up, args=(server,), daemon=False).start()

    def _clean_up(self, server: str | None) -> None:
        """Have the downloads given back, then end the server and this process."""
        try:
            STOP.set(0.0)
            os.kill(os.getpid(), signal.SIGTERM)
            deadline = time.monotonic() + PATIENCE_S
            while desk().keeper.attempts and time.monotonic() < deadline:
                time.sleep(POLL_S)
            # The same command again may have a new server at this address already.
            if server is not None and self._server() == server:
                self.ledger.connection.end_server()
        except Exception:
            logger.exception("the private server may still run")
        finally:
            os._exit(0)

    def _server(self) -> str | None:
        """Tell servers at one address apart; None when none answers."""
        with contextlib.suppress(Exception):
            return run_id(self.ledger.connection)
        return None
