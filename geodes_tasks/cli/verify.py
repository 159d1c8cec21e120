"""The command ``verify``: audit files on disk, and fetch again those that are not right."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from geodes_tasks.cli.options import say, stderr
from geodes_tasks.client import batch as batches
from geodes_tasks.client.enqueue_admission import new_batch_name
from geodes_tasks.client.run import admitted, has_cluster, ledger_of, on_this_machine
from geodes_tasks.client.steering import repair_requests
from geodes_tasks.errors import ConfigError
from geodes_tasks.ledger import Ledger
from geodes_tasks.model.formatting import human_bytes
from geodes_tasks.monitoring.loading import LoadView
from geodes_tasks.monitoring.terminal import view
from geodes_tasks.settings import config
from geodes_tasks.transfer import audit
from geodes_tasks.transfer.audit import BAD, Audited, Expected

if TYPE_CHECKING:
    from collections.abc import Iterator

    from geodes_tasks.client.planning import Planned
    from geodes_tasks.settings.config import Settings


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(name="verify")(verify_command)


def verify_command(
    target: Annotated[
        str | None, typer.Argument(metavar="[DIR|BATCH]", help="Default: the newest batch.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", help="A report (jsonl, json) or md5sum list; no Redis needed."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--repair", help="Fetch those again that are not right.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One line a file that is wrong.")] = False,
    processes: Annotated[int | None, typer.Option("-j", min=1, help="Processes.")] = None,
) -> None:
    """Read every file again and compare it with its checksum; 0 all right, 3 some are not."""
    if against is not None:
        if again:
            raise ConfigError("--repair", "needs the ledger: leave --against out")
        wanted = within(audit.of_file(against), target)
        finish(look(wanted, processes, as_json=as_json), wanted)
    settings = config.load()
    folder = Path(target).absolute() if target and Path(target).is_dir() else None
    with known(settings, folder) as ledger:
        wanted = of_folder(ledger, folder) if folder else of_batch(ledger, target)
        bad = look(wanted, processes, as_json=as_json)
        asked = repair_requests(ledger, [one.expected for one in bad]) if again else []
    if asked:
        mend(asked, folder, settings)
        bad = look([one.expected for one in bad], processes, as_json=as_json)
    finish(bad, wanted)


def within(wanted: list[Expected], target: str | None) -> list[Expected]:
    """Keep what lies below a folder, when one is named."""
    if target is None:
        return wanted
    folder = Path(target).absolute()
    return [one for one in wanted if Path(one.path).absolute().is_relative_to(folder)]


@contextlib.contextmanager
def known(settings: Settings, folder: Path | None) -> Iterator[Ledger]:
    """Return the ledger of the cluster, or that of the last run on this machine into a folder."""
    if folder is None:
        yield Ledger.of(settings)
        return
    with ledger_of(settings, folder, LoadView(stderr)) as ledger:
        if ledger is None:
            say(f"nothing was downloaded to {folder}")
            raise typer.Exit(batches.NOTHING)
        yield ledger


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


def mend(asked: list[Planned], folder: Path | None, settings: Settings) -> None:
    """Have the files fetched again, by the cluster or here, and wait until they are there."""
    name = f"repair-{new_batch_name()}"
    with contextlib.ExitStack() as stack:
        if folder is None or has_cluster(settings):
            run = admitted(asked, settings, name)
        else:
            machine = on_this_machine(asked, folder, settings, name, LoadView(stderr))
            run = stack.enter_context(machine)
        say(f"{len(asked)} files are fetched again, batch {name}")
        run.watch(view(stderr, quiet=not stderr.is_terminal))


# --- looking and telling -------------------------------------------------------------------------


def look(wanted: list[Expected], processes: int | None, *, as_json: bool) -> list[Audited]:
    """Audit with progress, tell each file that is not right, and give them."""
    counts: Counter[audit.Finding] = Counter()
    bad, read = [], 0
    with progress() as bars:
        task = bars.add_task("verify", total=len(wanted))
        for one in audit.audit_all(wanted, processes):
            counts[one.finding] += 1
            read += one.size_bytes
            bars.advance(task)
            if one.finding in BAD:
                bad.append(one)
                detail = f" ({one.detail})" if one.detail else ""
                line = f"{one.finding}: {one.expected.path}{detail}"
                print(json.dumps(one.to_dict()) if as_json else line)  # noqa: T201 - to stdout
    told = ", ".join(f"{counts[kind]} {kind}" for kind in audit.Finding if counts[kind])
    say(f"{len(wanted)} files, {human_bytes(read)}: {told or 'none'}")
    return bad


def progress() -> Progress:
    """Show a bar in a terminal, and nothing elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(
        *columns, TimeRemainingColumn(), console=stderr, transient=True,
        disable=not stderr.is_terminal,
    )  # fmt: skip


def finish(bad: list[Audited], wanted: list[Expected]) -> NoReturn:
    """End with the code that tells."""
    if not wanted:
        say("nothing to verify: no finished download is known")
        raise typer.Exit(batches.NOTHING)
    raise typer.Exit(batches.SOME_FAILED if any(one.finding in BAD for one in bad) else 0)
