"""The command ``verify``: audit files on disk, and fetch again those that are not right."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from geodes_tasks.cli.options import OutputDir, argument, option
from geodes_tasks.cli.output import stderr, write_data, write_line
from geodes_tasks.client import exit_codes, ledgers, planning
from geodes_tasks.client.enqueue_admission import new_batch_name
from geodes_tasks.client.ledgers import OpenLedger
from geodes_tasks.client.local_server import known_folders
from geodes_tasks.client.planning import Planned
from geodes_tasks.client.run import begun
from geodes_tasks.client.steering import repair_requests
from geodes_tasks.errors import ConfigError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import human_bytes, plural
from geodes_tasks.monitoring.terminal import view
from geodes_tasks.settings import config
from geodes_tasks.settings.cluster import has_cluster
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer import audit
from geodes_tasks.transfer.audit import BAD, Audited, Expected


def verify(
    target: Annotated[
        str | None, argument(metavar="DIR|BATCH", help="[default: the newest batch]")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="A report (jsonl, json) or md5sum list; no Redis needed."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--repair", help="Fetch wrong and missing files again.")
    ] = False,
    opens: Annotated[
        bool, typer.Option("--open", help="Open zip archives too: the CRC of each member.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON line for each wrong file.")
    ] = False,
    processes: Annotated[
        int | None, option("-j", min=1, help="Processes that read [default: one per processor].")
    ] = None,
    output_dir: OutputDir = None,
) -> None:
    """Read files again and compare them with their checksums.

    Examples: geodes-tasks verify DIR --repair --open; geodes-tasks verify --against md5sums. Exit
    codes: 0 all are right, 3 some are wrong or missing, 4 nothing to verify.
    """
    if against is not None:
        if again:
            raise ConfigError("--repair", "needs the ledger: leave --against out")
        wanted = audit.of_file(against)
        if target is not None:
            below = planning.folder(target)
            wanted = [one for one in wanted if Path(one.path).absolute().is_relative_to(below)]
        finish(audit_files(wanted, processes, as_json=as_json, opens=opens), wanted)
    conf = config.load()
    folder = planning.folder(target).resolve() if target else None
    # A folder that was moved away has its ledger yet, and every file of it is missing.
    if folder and not (folder.is_dir() or folder in known_folders(conf)):
        folder = None
    home = planning.folder(output_dir).resolve() if output_dir else folder
    whole = folder if target else home
    with open_ledger(conf, home, target) as found:
        wanted = of_folder(found.ledger, whole) if whole else of_batch(found.ledger, target)
        bad = audit_files(wanted, processes, as_json=as_json, opens=opens)
        wrong = [one.expected for one in bad]
        requests = repair_requests(found.ledger, wrong) if again else []
    if requests:
        repair(requests, found.folder)
        bad = audit_files(wrong, processes, as_json=as_json, opens=opens)
    finish(bad, wanted)


@contextlib.contextmanager
def open_ledger(conf: Config, folder: Path | None, target: str | None) -> Iterator[OpenLedger]:
    """Yield the private ledger of a folder where it has one, else the one that a batch is in."""
    is_private = folder in known_folders(conf)
    if folder is None:
        opened = ledgers.selected(conf, None, target, write_line)
    elif is_private or has_cluster(conf):
        opened = ledgers.opened(conf, folder if is_private else None)
    else:
        write_line(f"nothing was downloaded to {folder}")
        raise typer.Exit(exit_codes.NOTHING)
    with opened as found:
        yield found


def of_batch(ledger: Ledger, name: str | None) -> list[Expected]:
    """Return the finished files of a batch, by default the newest."""
    names = [name] if name else ledger.reading.batches()[:1]
    return [one for batch in names for one in audit.of_records(ledger.reading.records(batch))]


def of_folder(ledger: Ledger, folder: Path) -> list[Expected]:
    """Return the finished files of all batches that lie below a folder, each once."""
    found = {
        one.path: one
        for name in reversed(ledger.reading.batches())
        for one in audit.of_records(ledger.reading.records(name), folder)
    }
    return list(found.values())


def repair(requests: list[Planned], folder: Path | None) -> None:
    """Fetch files again, here with a folder, else by the cluster, and wait until they are there."""
    name, conf = f"repair-{new_batch_name()}", config.load()
    with begun(requests, folder, conf, name) as run:
        write_line(f"{plural(len(requests), 'file')} to be fetched again, batch {name}")
        run.watch(view(stderr, quiet=not stderr.is_interactive))


def audit_files(
    wanted: list[Expected], processes: int | None, *, as_json: bool, opens: bool
) -> list[Audited]:
    """Audit with progress, print each wrong file, and return these."""
    counts: Counter[audit.Finding] = Counter()
    bad, read = [], 0
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    # Into a pipe rich writes an empty line at the end.
    console = stderr if stderr.is_interactive else Console(quiet=True, emoji=False)
    with Progress(
        TextColumn("{task.description}"), *columns, console=console, transient=True,
        disable=not stderr.is_interactive,
    ) as bars:  # fmt: skip
        task = bars.add_task("verify", total=len(wanted))
        for one in audit.audit_all(wanted, processes, opens=opens):
            counts[one.finding] += 1
            read += one.size_bytes
            bars.advance(task)
            if one.finding in BAD:
                bad.append(one)
                detail = f" ({one.detail})" if one.detail else ""
                line = f"{one.finding}: {one.expected.path}{detail}"
                write_data(one.to_dict() if as_json else line)
    found = ", ".join(f"{counts[kind]} {kind}" for kind in audit.Finding if counts[kind])
    write_line(f"{plural(len(wanted), 'file')}, {human_bytes(read)}: {found or 'none'}")
    return bad


def finish(bad: list[Audited], wanted: list[Expected]) -> NoReturn:
    """Exit with the code of the result."""
    if not wanted:
        write_line("nothing to verify: no finished download is known")
        raise typer.Exit(exit_codes.NOTHING)
    raise typer.Exit(exit_codes.SOME_FAILED if any(one.finding in BAD for one in bad) else 0)
