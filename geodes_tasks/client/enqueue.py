"""Enqueue from Python, and run on one machine: what a notebook or a script calls."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from geodes_tasks.client import enqueue_admission, planning
from geodes_tasks.client.batch import Batch
from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import named_key
from geodes_tasks.stac import readers
from geodes_tasks.tasks.app import Sender
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from geodes_tasks.settings.config import Config


def enqueue(
    items: Any,
    *,
    download_dir: str | Path | None = None,
    batch: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    layout: str = DEFAULT_LAYOUT,
    source: str = planning.AUTO,
    extract: bool = False,
    keep_archive: bool = False,
    account: str | None = None,
    priority: int | None = None,
    weight: int | None = None,
    conf: Config | None = None,
) -> Batch:
    """Queue items for the workers of ``GEODES_TASKS_REDIS_URL``; asking twice is asking once.

    Args:
        items: ``pystac.Item``, pygeodes items, plain dicts, collections of these, or the name
            of a file that holds them.
        download_dir: Where the files go, as the workers see it; default GEODES_TASKS_DOWNLOAD_DIR.
        batch: A name for what is asked for together; default is made from the time.
        include: Globs over asset keys, in place of the default choice (data, no XML).
        exclude: Globs over asset keys that are not wanted.
        layout: Template of the path below the folder, such as ``{collection}/{item}/{title}``.
        source: ``auto``, ``geodes`` or ``s3``.
        extract: Unpack zip archives, after their proof, into folders of their name.
        keep_archive: With ``extract``, keep the archives beside their folders.
        account: Who pays; default GEODES_TASKS_ACCOUNT. The workers have its key.
        priority: Nothing of a lower one starts while a batch of a higher one has work.
        weight: Turns in a row among batches of one priority.
        conf: In place of environment and files.

    Returns:
        A handle with ``id``, ``wait()``, ``status()`` and ``results()``. What is wrong with an
        item is in its record, state FAILURE; the other items are queued.

    Raises:
        LedgerUnavailableError: Redis does not answer.
        ConfigError: a setting or the layout cannot be used.
    """
    settings = conf or config.load()
    if account is not None:
        named_key(account)
        settings = settings.model_copy(update={"account": account})
    ledger = Ledger.of(settings)
    ledger.connection.ping()
    folder = planning.folder(download_dir or settings.download_dir)
    unpack = planning.unpacking(extract=extract, keep_archive=keep_archive)
    selection = planning.Selection(folder, tuple(include), tuple(exclude), layout, source, unpack)
    planned = planning.plan(readers.items_of(items), selection)
    name = batch or enqueue_admission.new_batch_name()
    rank = enqueue_admission.rank_of(priority, weight)
    enqueue_admission.admit(planned, name, settings.account, ledger, Sender(settings), rank)
    if ledger.connection.replicas_confirm() is False:
        logger.warning(
            "no replica of Redis confirmed batch %s within a second: if the primary is lost now, "
            "enqueue the same items again",
            name,
            extra={"action": "not_replicated", "batch": name},
        )
    return Batch(name, ledger, settings)
