"""Hooks: a command or a webhook for each finished file and for each finished batch.

A hook that fails, hangs or is misconfigured does not affect a download: it runs in a thread of its
own with a time limit, and its failure is one line in the log. Calls that wait when the worker of a
cluster ends are lost; one-machine mode ends after them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import re
import shlex
import signal
import string
import subprocess
import threading
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from geodes_tasks.errors import ConfigError, GeodesTasksError
from geodes_tasks.ledger import Claim, Ledger
from geodes_tasks.model.results import DownloadResult
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.urls import is_loopback
from geodes_tasks.tasks.core_binding import use_all_cores
from geodes_tasks.tasks.loop_guard import LoopGuard

if TYPE_CHECKING:
    from geodes_tasks.transports.http.http_client import HttpClient

logger = logging.getLogger(__name__)

FILE_FIELDS = frozenset(
    {"path", "item", "collection", "asset_key", "title", "outcome", "size_bytes", "checksum",
     "verified", "source", "download_id"}
)  # fmt: skip
BATCH_FIELDS = frozenset({"batch", "total", "done", "failed", "cancelled", "bytes"})
WAITING = 1000
"""Calls that may wait, at most; further ones are dropped with a warning."""
THREADS = 2
"""Number of threads that call hooks in one process."""
JSON = {"Content-Type": "application/json"}
_SECRET = (
    "GEODES_API_KEY", "GEODES_TASKS_REDIS_URL", "GEODES_TASKS_ON_", "GEODES_TASKS_S3_CREDENTIALS",
    "AWS_", "FLOWER_",
)  # fmt: skip
_LOGIN = re.compile(r"://[^/\s@]*:[^/\s@]*@")
"""A password in an address."""


class Hook:
    """One command template or one webhook address."""

    def __init__(self, name: str, text: str, fields: frozenset[str], settings: Config) -> None:
        """Parse the template.

        Args:
            name: Name of the setting, for messages.
            text: ``https://...`` for a webhook, else a command with ``{field}`` in its words.
            fields: Names that a template may use.
            settings: Time limit; proxy and certificates for a webhook.

        Raises:
            ConfigError: an unknown field, unbalanced quotes, or plain http to another machine.
        """
        self.name, self.url, self.words = name, "", list[str]()
        self._settings, self._timeout_s = settings, settings.hook_seconds
        if text.startswith(("http://", "https://")):
            parts = urlsplit(text)
            if parts.scheme == "http" and not is_loopback(parts.hostname):
                raise ConfigError(name, "plain http is taken for loopback only; write https://")
            self.url = text
        else:
            self.words = _checked_words(name, text, fields)

    @cached_property
    def _client(self) -> HttpClient:
        """The client of a webhook; its host may be inside the network, as the operator named it."""
        # Importing requests opens a socket (urllib3 tries IPv6), which no import of a worker may.
        from geodes_tasks.transports.http.http_client import HttpClient

        host = urlsplit(self.url).hostname or ""
        return HttpClient(self._settings, with_key=False, trusted=host)

    def call(self, facts: Mapping[str, Any]) -> None:
        """Run the hook once, within its time limit; log a failure in one line."""
        try:
            if self.url:
                self._post(facts)
            else:
                self._run(facts)
        except subprocess.TimeoutExpired:
            limit_s = self._timeout_s
            logger.warning("%s: ended, as it did not finish within %g s", self.name, limit_s)
        except GeodesTasksError as error:
            # Without the address: the path of a webhook is the secret of most services.
            problem = getattr(error, "problem", "the answer broke off")
            logger.warning("%s: %s: %s", self.name, type(error).__name__, problem)
        except Exception as error:  # noqa: BLE001 - a hook must never harm a download
            logger.warning("%s: %s: %s", self.name, type(error).__name__, error)

    def _run(self, facts: Mapping[str, Any]) -> None:
        # Word by word and without a shell: a file name cannot become a second word or a command.
        command = [word.format_map(facts) for word in self.words]
        # A title such as `--output=x` would be an option of the command (CWE-88).
        for word, text in zip(self.words, command, strict=True):
            if text.startswith("-") and not word.startswith("-"):
                logger.warning("%s: not called, %r would be an option", self.name, text[:120])
                return
        use_all_cores()
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=harmless(os.environ),
            start_new_session=True,
        ) as process:
            try:
                _, output = process.communicate(json.dumps(facts).encode(), timeout=self._timeout_s)
            except BaseException:
                # Its children too: start_new_session made it the leader of a group (setsid(2)).
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                raise
        if process.returncode:
            tail = output.decode(errors="replace").strip()[-300:]
            logger.warning("%s: exit code %d: %s", self.name, process.returncode, tail)

    def _post(self, facts: Mapping[str, Any]) -> None:
        # No redirect is followed: the facts go to the configured address alone.
        body = json.dumps(facts).encode()
        reply = self._client.fetch(self.url, headers=JSON, body=body, seconds=self._timeout_s)
        if not 200 <= reply.status < 300:
            logger.warning("%s: the webhook answered %d", self.name, reply.status)


def _checked_words(name: str, text: str, fields: frozenset[str]) -> list[str]:
    try:
        words = shlex.split(text)
        named = {field for word in words for _, field, _, _ in string.Formatter().parse(word)}
    except ValueError as error:
        raise ConfigError(name, f"cannot be read: {error}") from error
    # Attributes and indices ({a.b}, {a[0]}) are not among the names, so they are refused too.
    unknown = sorted(field for field in named if field is not None and field not in fields)
    if unknown or not words:
        known = ", ".join(sorted(fields))
        raise ConfigError(name, f"unknown field {unknown or text!r}; there are: {known}")
    return words


def harmless(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without keys and passwords: a hook needs none."""
    return {
        name: value
        for name, value in variables.items()
        # Names of settings have any case; an address of a proxy may lack its scheme.
        if not (key := name.upper()).startswith(_SECRET)
        and not _LOGIN.search(value)
        and not (key.endswith("_PROXY") and "@" in value)
    }


class Hooks:
    """The hooks of one process, called in threads of their own: no download waits for one."""

    def __init__(self, settings: Config) -> None:
        """Parse the templates of the settings. Threads start with the first call.

        Raises:
            ConfigError: a template cannot be used.
        """
        self.file, self.batch = (
            Hook(f"GEODES_TASKS_{name}", text, fields, settings) if text else None
            for name, text, fields in (
                ("ON_FILE", settings.on_file, FILE_FIELDS),
                ("ON_BATCH", settings.on_batch, BATCH_FIELDS),
            )
        )
        self._calls: queue.Queue[tuple[Hook, Mapping[str, Any]]] = queue.Queue(WAITING)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._guard = LoopGuard(logger, "calling a hook")

    def file_done(self, claim: Claim, result: DownloadResult) -> None:
        """Queue the call for a verified file."""
        if self.file is not None:
            self._put(self.file, file_facts(claim, result))

    def batches_done(self, ledger: Ledger) -> None:
        """Queue the calls for finished batches: once in the fleet, again after a retry.

        Called every few seconds by each worker.

        Raises:
            LedgerUnavailableError: Redis does not answer.
        """
        if self.batch is not None:
            for facts in newly_over(ledger):
                self._put(self.batch, facts)

    def _put(self, hook: Hook, facts: Mapping[str, Any]) -> None:
        with self._lock:
            while len(self._threads) < THREADS:
                thread = threading.Thread(target=self._work, name="hooks", daemon=True)
                thread.start()
                self._threads.append(thread)
        try:
            self._calls.put_nowait((hook, facts))
        except queue.Full:
            logger.warning("%s: %d calls are waiting, this one is dropped", hook.name, WAITING)

    def _work(self) -> None:
        while True:
            hook, facts = self._calls.get()
            with self._guard:
                hook.call(facts)
            self._calls.task_done()

    def join(self) -> None:
        """Wait until all queued calls are done."""
        self._calls.join()


def file_facts(claim: Claim, result: DownloadResult) -> dict[str, Any]:
    """Return the facts that the hook of a file receives."""
    return {
        "path": result.path,
        "item": claim.asset.item_id,
        "collection": claim.asset.collection,
        "asset_key": claim.asset.key,
        "title": claim.asset.title,
        "outcome": str(result.outcome),
        "size_bytes": result.size_bytes,
        "checksum": str(result.checksum) if result.checksum else "",
        "verified": result.verified,
        "source": result.source or "",
        "download_id": claim.download_id,
    }


def newly_over(ledger: Ledger) -> list[dict[str, Any]]:
    """Return the facts of batches that are over and that no worker has claimed for its hook yet.

    Batches from before hooks were first used are left out.

    Raises:
        LedgerUnavailableError: Redis does not answer.
    """
    return [
        {
            "batch": status.batch,
            "total": status.total,
            "done": status.states["SUCCESS"],
            "failed": status.states["FAILURE"],
            "cancelled": status.states["REVOKED"],
            "bytes": status.bytes_done,
        }
        for status in ledger.retention.newly_finished()
    ]
