"""Enqueue items from Python, for a cluster or for this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from geodes_tasks.client import enqueue_admission, ledgers, planning
from geodes_tasks.client import run as runs
from geodes_tasks.client.batch import Batch
from geodes_tasks.client.item_like import (
    ItemsLike,
    SourceName,
    check_items,
    check_source,
    check_text,
)
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import named_key
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.stac import readers
from geodes_tasks.transfer import disk
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT


def enqueue(
    items: ItemsLike,
    *,
    download_dir: str | Path | None = None,
    batch: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    layout: str = DEFAULT_LAYOUT,
    source: SourceName = "auto",
    extract: bool = False,
    keep_archive: bool = False,
    members: Sequence[str] = (),
    portal_ranges: bool = False,
    account: str | None = None,
    priority: int | None = None,
    weight: int | None = None,
    conf: Config | None = None,
) -> Batch:
    """Queue items for download. Idempotent: the same items again never download a file twice.

    With ``GEODES_TASKS_REDIS_URL`` the workers of that cluster download. Without it the batch is
    kept for this machine, and downloaded while its ``wait()`` or another run into that folder is
    under way.

    Args:
        items: ``pystac.Item``, pygeodes items, plain dicts, collections of these, or the name
            of a file that holds them.
        download_dir: Where the files go, as the workers see it; default GEODES_TASKS_DOWNLOAD_DIR.
        batch: A name for the batch; default is made from the time.
        include: Globs over asset keys, in place of the default choice (data, no XML).
        exclude: Globs over asset keys that are not wanted.
        layout: Template of the path below the folder, such as ``{collection}/{item}/{title}``.
        source: ``auto``, ``geodes`` or ``s3``.
        extract: Unpack zip archives, after their proof, into folders of their name.
        keep_archive: With ``extract``, keep the archives beside their folders.
        members: Globs over members of zip archives, such as ``*_B04_10m.jp2``: only these are
            fetched, into a folder of the archive's name.
        portal_ranges: Fetch members by ranges from the portal too: fewer bytes, more quota.
        account: The account whose limits count; default GEODES_TASKS_ACCOUNT. Workers have its key.
        priority: -9 to 9: nothing of a lower one starts while a higher one has work; default 0.
        weight: 1 to 100: turns for one of a batch of weight 1 and the same priority; default 1.
        conf: In place of environment and files.

    Returns:
        A handle on the batch. An item that cannot be downloaded is a record of state FAILURE; the
        other items are queued. Without items the batch is empty and done.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of its range.
        LedgerUnavailableError: Redis does not answer.
        ConfigError: a setting, the layout or a glob cannot be used.

    Examples:
        >>> from geodes_tasks import enqueue
        >>> batch = enqueue("items.json", download_dir="downloads", batch="april")
        >>> batch.wait(quiet=True).ok
        True
    """
    check_items(items)
    check_source(source)
    if batch is not None:
        check_text("batch", batch)
    rank = enqueue_admission.rank_of(priority, weight)
    if batch:
        enqueue_admission.check_batch_name(batch)
    conf = config.of(conf)
    if account is not None:
        named_key(check_text("account", account))
        conf = conf.replace(account=account)
    folder = ledgers.folder_of(conf, download_dir)
    selection = planning.Selection(
        folder, include=include, exclude=exclude, layout=layout, source=source, extract=extract,
        keep_archive=keep_archive, members=members, portal_ranges=portal_ranges,
    )  # fmt: skip
    planned = planning.plan(readers.items_of(items), selection)
    private = None if has_cluster(conf) else folder
    with ledgers.opened(conf, private, is_new=True) as found:
        if private is not None:
            # One error now, in place of the same error for every download.
            disk.probe(private)
        # The workers of a cluster have published their folders; one machine has no worker yet.
        shared = None if private is not None else folder
        run = runs.admitted(planned, found.conf, batch, rank=rank, folder=shared)
        if private is not None:
            found.ledger.control.keep(run.batch.id)
    return Batch(run.batch.id, None, conf, private, is_empty=not run.receipt.downloads)
