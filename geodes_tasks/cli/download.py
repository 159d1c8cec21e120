"""The commands ``download`` and ``enqueue``: items in, proven files out, here or on a cluster."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from geodes_tasks.cli import search as searches
from geodes_tasks.cli.options import AsJson, ConfigFile, complain, say, stderr
from geodes_tasks.client import batch as batches
from geodes_tasks.client import enqueue_admission, planning
from geodes_tasks.client import run as runs
from geodes_tasks.client.planning import Selection
from geodes_tasks.errors import ConfigError, DiskError, NotAFileError
from geodes_tasks.model.formatting import human_bytes, seconds_of
from geodes_tasks.monitoring.loading import load_view
from geodes_tasks.monitoring.terminal import view
from geodes_tasks.monitoring.wording import outcomes, summary
from geodes_tasks.settings import config
from geodes_tasks.settings.account_keys import named_key
from geodes_tasks.transfer import disk
from geodes_tasks.transfer.destination import DEFAULT_LAYOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.client.enqueue_admission import Receipt
    from geodes_tasks.client.planning import Planned
    from geodes_tasks.client.run import Run
    from geodes_tasks.settings.config import Settings

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 plus the number of SIGINT, as bash(1) reports it."""


class SourceChoice(StrEnum):
    """Where the bytes come from."""

    AUTO = "auto"
    S3 = "s3"
    GEODES = "geodes"


Sources = Annotated[
    list[str],
    typer.Argument(metavar="SOURCE...", help="STAC JSON files, - (standard input), item ids."),
]
Files = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SOURCE]...",
        help="STAC JSON files, - (standard input), item ids or product names; or search (below).",
    ),
]
Include = Annotated[
    list[str] | None,
    typer.Option("--include", "-i", help="Take assets whose key matches this glob."),
]
Exclude = Annotated[
    list[str] | None, typer.Option("--exclude", "-x", help="Leave assets whose key matches out.")
]
Layout = Annotated[
    str, typer.Option("--layout", help="Path below the folder, e.g. {collection}/{item}/{title}.")
]
From = Annotated[SourceChoice, typer.Option("--source", help="Where the bytes come from.")]
Folder = Annotated[Path | None, typer.Option("--output-dir", "-o", help="The download folder.")]
MaxWait = Annotated[
    float | None,
    typer.Option(
        "--max-wait",
        parser=seconds_of,
        metavar="DURATION",
        help="End when all that is left has been on tape for so long: 90, 15m, 2h (exit code 6).",
    ),
]
OfAccount = Annotated[
    str | None, typer.Option("--account", help="Who pays: an account whose key the workers have.")
]
Priority = Annotated[
    int | None,
    typer.Option("--priority", min=-9, max=9, help="Goes before all batches of a lower one."),
]
Weight = Annotated[
    int | None,
    typer.Option("--weight", min=1, max=100, help="Turns to one of a batch of weight 1."),
]
Quiet = Annotated[bool, typer.Option("--no-progress", help="Show no progress.")]


def register(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    app.command()(download)
    app.command()(enqueue)


def download(
    source: Files = None,
    output_dir: Folder = None,
    include: Include = None,
    exclude: Exclude = None,
    layout: Layout = DEFAULT_LAYOUT,
    from_: From = SourceChoice.AUTO,
    slots: Annotated[int | None, typer.Option("-j", min=1, help="Transfers at once.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    as_json: AsJson = False,
    no_progress: Quiet = False,
    config_file: ConfigFile = None,
    collection: searches.Collections = None,
    ids: searches.Ids = None,
    bbox: searches.Bbox = None,
    intersects: searches.Intersects = None,
    start: searches.Start = None,
    end: searches.End = None,
    cloud_cover: searches.CloudCover = None,
    tile: searches.Tile = None,
    query: searches.Query = None,
    ask_above: searches.AskAbove = searches.ASK_ABOVE,
    yes: searches.Yes = False,
    max_wait: MaxWait = None,
) -> None:
    """Download on this machine; nothing needs installing or configuring first.

    The same command again goes on where the last one stopped.
    """
    settings = config.load(config_file, download_dir=output_dir, max_concurrent=slots)
    # One folder, one ledger, under whatever name it was given.
    folder = settings.download_dir.expanduser().resolve()
    settings = settings.model_copy(update={"download_dir": folder})
    selection = _selection(settings, include, exclude, layout, from_)
    wanted = searches.search_of(
        collection=collection, ids=ids, bbox=bbox, intersects=intersects, start=start, end=end,
        cloud_cover=cloud_cover, tile=tile, query=query,
    )  # fmt: skip
    if (wanted is None) is not bool(source):
        raise ConfigError("SOURCE", "give files, or a search such as --collection, one of the two")
    found = None
    if wanted is None:
        planned = planning.plan(searches.items_of(source or [], settings), selection)
    else:
        found = searches.confirmed(wanted, settings, ask_above=ask_above, yes=yes or dry_run)
        planned = planning.plan(found, selection)
    if dry_run:
        _show_plan(planned, as_json=as_json)
    # A folder that cannot be written fails here, before a server and a worker start.
    try:
        disk.probe(selection.folder)
    except (DiskError, NotAFileError) as error:
        raise ConfigError("--output-dir", str(error), error.hint) from error
    on_load = load_view(stderr, quiet=no_progress)
    with runs.on_this_machine(planned, selection.folder, settings, on_load=on_load) as run:
        _tell(run.receipt)
        try:
            picture = view(stderr, quiet=no_progress)
            run.watch(picture, rows=not no_progress, tell=say, max_wait_s=max_wait)
        except KeyboardInterrupt:
            stderr.print("interrupted: stopping", highlight=False)
            run.stop()
            say(f"{run.left()}; the same command again goes on")
            raise typer.Exit(INTERRUPTED) from None
        _finish(run, as_json=as_json, is_whole=not (found and (found.missing or found.is_cut)))


def enqueue(
    source: Sources,
    output_dir: Folder = None,
    include: Include = None,
    exclude: Exclude = None,
    layout: Layout = DEFAULT_LAYOUT,
    from_: From = SourceChoice.AUTO,
    batch_name: Annotated[str | None, typer.Option("--batch", help="A name for the batch.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is over.")] = False,
    as_json: AsJson = False,
    no_progress: Quiet = False,
    config_file: ConfigFile = None,
    account: OfAccount = None,
    priority: Priority = None,
    weight: Weight = None,
    max_wait: MaxWait = None,
) -> None:
    """Queue items for the workers of GEODES_TASKS_REDIS_URL; prints the batch id."""
    settings = config.load(config_file, download_dir=output_dir, account=account)
    named_key(settings.account)
    selection = _selection(settings, include, exclude, layout, from_)
    rank = enqueue_admission.rank_of(priority, weight)
    planned = planning.plan(searches.items_of(source, settings), selection)
    run = runs.admitted(planned, settings, batch_name, rank=rank)
    _tell(run.receipt)
    if not wait:
        print(json.dumps(run.receipt.to_dict()) if as_json else run.batch.id)  # noqa: T201
        return
    picture = view(stderr, quiet=no_progress)
    run.watch(picture, rows=not no_progress, tell=say, max_wait_s=max_wait)
    _finish(run, as_json=as_json)


# --- before --------------------------------------------------------------------------------------


def _selection(
    settings: Settings,
    include: list[str] | None,
    exclude: list[str] | None,
    layout: str,
    source: SourceChoice,
) -> Selection:
    folder = planning.folder(settings.download_dir)
    return Selection(folder, tuple(include or ()), tuple(exclude or ()), layout, str(source))


def _show_plan(planned: Iterator[Planned], *, as_json: bool) -> NoReturn:
    rows, total, refused = [], 0, 0
    for one in planned:
        for request in one.requests:
            total += request.asset.size_bytes or 0
            rows.append({"path": request.path, "size_bytes": request.asset.size_bytes})
            if not as_json:
                size = human_bytes(request.asset.size_bytes)
                print(f"{size:>12}  {request.path}")  # noqa: T201 - data goes to stdout
        for refusal in one.refusals:
            refused += 1
            complain(refusal.error)
    if as_json:
        print(json.dumps({"downloads": rows, "bytes_total": total, "refused": refused}))  # noqa: T201
    stderr.print(f"{len(rows)} downloads, {human_bytes(total)}, {refused} refused", highlight=False)
    raise typer.Exit(
        (batches.SOME_FAILED if refused else 0) if rows or refused else batches.NOTHING
    )


# --- after ---------------------------------------------------------------------------------------


def _tell(receipt: Receipt) -> None:
    """Name what was refused; end where there is nothing to download."""
    for error in receipt.errors:
        complain(error)
    unnamed = receipt.admissions["refused"] - len(receipt.errors)
    if unnamed > 0:
        stderr.print(f"and {unnamed} more refused: see geodes-tasks report {receipt.batch}")
    if not receipt.downloads:
        stderr.print("nothing to download: the source holds no items")
        raise typer.Exit(batches.NOTHING)


def _finish(run: Run, *, as_json: bool, is_whole: bool = True) -> NoReturn:
    """Print the result and the failures, and exit with the code of the batch.

    Items that the portal counted and did not deliver are failures too.
    """
    status = run.status()
    stderr.print(summary(status) + outcomes(status), highlight=False)
    if status.states["FAILURE"] or status.waiting:
        # What was refused at the door was named there.
        for line in run.failures(refused=False):
            say(line)
    if as_json:
        print(json.dumps(status.to_dict()))  # noqa: T201 - data goes to stdout
    code = batches.exit_code(status, run.ledger.reading.failures(run.batch.id))
    raise typer.Exit(code if code or is_whole else batches.SOME_FAILED)
