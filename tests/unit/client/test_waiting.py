"""Waiting for a batch: how often it is read, what is reported, when it ends."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.client import waiting
from geodes_tasks.client.waiting import LAST, Until, Waiting, is_ending
from geodes_tasks.errors import (
    LedgerStuckError,
    SourceUnavailableError,
    SourceUnreachableError,
    remedies,
)
from geodes_tasks.ledger import News
from geodes_tasks.model.results import Decision
from geodes_tasks.model.states import Reason
from geodes_tasks.monitoring.terminal import View
from geodes_tasks.settings.config import Config
from geodes_tasks.transfer.retry import decide
from tests.unit.ledger.test_ledger import ENTRY, ask, claimed, postponed, request_of
from tests.unit.monitoring.test_terminal import status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from geodes_tasks.ledger import Ledger
    from geodes_tasks.model.results import BatchStatus
    from geodes_tasks.monitoring.snapshot import Snapshot


@pytest.mark.parametrize(
    ("before", "now", "ends"),
    [
        (None, 5, False),
        (5, 5, False),
        (1000, 900, False),
        (LAST + 1, LAST, True),
        (200, 100, True),
        (200, 101, False),
    ],
)
def test_the_end_is_near_when_as_many_are_left_as_came(
    before: int | None, now: int, ends: bool
) -> None:
    """What stands still, or has long to go, is not looked at more often."""
    earlier = None if before is None else status_of(pending=before)

    assert is_ending(status_of(pending=now), earlier) is ends


def test_only_downloads_of_the_batch_are_shown(fake_ledger: Ledger) -> None:
    """What others have under way on the same cluster is theirs to look at."""
    ours, theirs = request_of("ours"), request_of("theirs")
    ask(fake_ledger, ours, batch="ours")
    ask(fake_ledger, theirs, batch="theirs")
    claimed(fake_ledger, theirs)
    claimed(fake_ledger, ours)
    shown: list[str] = []

    class Picture(View):
        def show(self, status: BatchStatus, read: Callable[[], Snapshot]) -> None:
            shown.extend(one.title for one in read().running)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Waiting("ours", fake_ledger, Picture()).run()

    assert shown == ["ours.zip"]


def test_a_timeout_is_a_number(fake_ledger: Ledger) -> None:
    """The message has the value."""
    with pytest.raises(TypeError, match="timeout is a number of seconds or None, not '5'"):
        Waiting("ours", fake_ledger, View()).run("5")  # type: ignore[arg-type]


def test_batches_that_continue_too_are_named(fake_ledger: Ledger) -> None:
    """They use the same quota: one line tells, and how to end them; not what is over or gone."""
    for name in ("ours", "earlier"):
        ask(fake_ledger, request_of(name), batch=name)
    machine = SimpleNamespace(
        continued=["earlier", "forgotten", "ours"], start_workers=print, check=lambda: None
    )
    lines: list[str] = []

    with pytest.raises(TimeoutError):
        Waiting("ours", fake_ledger, View(), lines.append, machine=machine).run(0.0)  # type: ignore[arg-type]

    assert lines == [
        "batch earlier of an earlier run continues too; end it: "
        "geodes_tasks.batch('earlier').cancel()."
    ]


def test_numbers_of_numpy_are_numbers(fake_ledger: Ledger) -> None:
    """A timeout out of a table is one."""
    numpy = pytest.importorskip("numpy")
    ask(fake_ledger, request_of("one"), batch="ours")

    for timeout in (numpy.float64(0.0), numpy.int64(0)):
        with pytest.raises(TimeoutError):
            Waiting("ours", fake_ledger, View()).run(timeout)


def test_a_timeout_holds_though_redis_takes_no_changes(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mark of a batch with a handle is one more write that may be refused."""

    def refused(*_: object) -> None:
        raise LedgerStuckError("redis://r", "NOREPLICAS")

    ask(fake_ledger, request_of("one"), batch="ours")
    monkeypatch.setattr(fake_ledger.control, "keep", refused)

    with pytest.raises(TimeoutError):
        Waiting("ours", fake_ledger, View(), folder=tmp_path).run(0.1)


@pytest.mark.parametrize("kind", ["batch", "account"])
def test_a_pause_by_hand_is_reported_and_blocks(fake_ledger: Ledger, kind: str) -> None:
    """``until="blocked"`` returns when only a person can go on, and the command is named."""
    ask(fake_ledger, request_of("one"), batch="ours")
    if kind == "batch":
        fake_ledger.control.pause("batch", "ours", "by hand")
    else:
        fake_ledger.control.pause_account("acc", "by hand")
    lines: list[str] = []

    status = Waiting("ours", fake_ledger, View(), lines.append, "blocked").run(5)

    assert status.unfinished == 1
    assert lines == [
        "batch ours is paused; resume it: geodes_tasks.batch('ours').resume()."
        if kind == "batch"
        else "account acc is paused (by hand)."
    ]


@pytest.mark.parametrize(
    ("hrefs", "sources", "ends"),
    [
        ("geodes", ["geodes"], True),
        ("geodes", ["s3"], False),
        ("geodes+s3", ["geodes"], False),
        ("geodes+s3", ["geodes", "s3"], True),
        ("s3", ["s3"], True),
    ],
)
def test_a_paused_source_blocks_what_no_other_serves(
    fake_ledger: Ledger, hrefs: str, sources: list[str], ends: bool
) -> None:
    """What another source has continues, and so the wait does."""
    addresses = {one: f"https://h/{one}" for one in hrefs.split("+")}
    ask(fake_ledger, request_of("one", hrefs=addresses), batch="ours")
    fake_ledger.sources.exchange({"s3": News(offered=True)})
    for source in sources:
        fake_ledger.control.pause("source", source, "by hand")
    lines: list[str] = []

    with contextlib.nullcontext() if ends else pytest.raises(TimeoutError):
        Waiting("ours", fake_ledger, View(), lines.append, "blocked").run(0.1)

    assert lines == ([f"source {sources[0]} is paused."] if ends else [])


@pytest.mark.parametrize("until", ["key", "blocked", "done"])
@pytest.mark.parametrize("waited_s", [0.0, waiting.REFUSED_S])
@pytest.mark.parametrize("kind", [SourceUnavailableError, SourceUnreachableError])
def test_credentials_that_s3_refuses_end_a_wait(
    fake_ledger: Ledger, kind: type[SourceUnavailableError], waited_s: float, until: Until
) -> None:
    """A person replaces them, once they were tried again; a network comes back by itself."""
    ask(fake_ledger, request_of("one", hrefs={"s3": "s3://b/k"}), batch="ours")
    refused = kind("s3", "s3://b/k", "the secret key is wrong", whole=True)
    claim = claimed(fake_ledger, request_of("one", hrefs={"s3": "s3://b/k"}))
    fake_ledger.leases.postpone(claim, refused, decide(refused, 1, "", Config()), ENTRY)
    ends = kind is SourceUnavailableError and until != "done" and waited_s

    with contextlib.nullcontext() if ends else pytest.raises(TimeoutError):
        one = Waiting("ours", fake_ledger, View(), until=until)
        one.began -= waited_s
        one.run(waited_s + 0.1)


def test_without_a_worker_for_s3_the_portal_alone_counts(fake_ledger: Ledger) -> None:
    """A download that both sources have does not move either while the portal is paused."""
    addresses = {"geodes": "https://h/g", "s3": "s3://b/k"}
    ask(fake_ledger, request_of("one", hrefs=addresses), batch="ours")
    fake_ledger.dispatch.register("w1", 1)
    fake_ledger.control.pause("source", "geodes", "by hand")

    assert Waiting("ours", fake_ledger, View(), until="blocked").run(1).unfinished == 1


@pytest.mark.parametrize("kind", ["batch", "account", "source"])
def test_a_command_names_the_folder_of_a_private_ledger(
    fake_ledger: Ledger, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pasted into a shell, it steers this ledger also where a cluster is configured."""
    monkeypatch.setattr(remedies, "_is_at_shell", True)
    ask(fake_ledger, request_of("one"), batch="ours")
    name = {"batch": "ours", "account": "acc", "source": "geodes"}[kind]
    if kind == "account":
        fake_ledger.control.pause_account("acc", "by hand")
    else:
        fake_ledger.control.pause(kind, name, "by hand")
    lines: list[str] = []
    folder = Path("/data/my files")

    Waiting("ours", fake_ledger, View(), lines.append, "blocked", folder=folder).run(5)

    (line,) = lines
    assert line.endswith(f"geodes-tasks resume -o '/data/my files' --{kind} {name}.")
    # In Python a batch is found in whatever ledger has it.
    assert "-o" not in remedies.in_python(line)


@pytest.mark.parametrize("until", ["done", "key"])
def test_no_worker_is_reported_and_ends_nothing(
    fake_ledger: Ledger, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Schedulers start workers later: a line says that none is alive, once."""
    ask(fake_ledger, request_of("one"), batch="ours")
    monkeypatch.setattr(waiting, "NO_WORKER_S", 0.0)
    monkeypatch.setattr(waiting, "ACCOUNT_S", 0.0)
    lines: list[str] = []

    with pytest.raises(TimeoutError, match="1 of 1 download unfinished after 1 s"):
        Waiting("ours", fake_ledger, View(), lines.append, until).run(1)

    assert lines == ["no worker is alive: start one with `geodes-tasks worker`; waiting"]


@pytest.mark.parametrize(("until", "lines"), [("key", 0), ("blocked", 1)])
def test_a_missing_key_is_reported_once(fake_ledger: Ledger, until: Until, lines: int) -> None:
    """A command names the errors at its end: only the others need a line while they wait."""
    one = request_of("one")
    ask(fake_ledger, one, batch="ours")
    paused = Decision(True, Reason.AUTH, counted=False, pause="key refused")
    postponed(fake_ledger, claimed(fake_ledger, one), paused)
    written: list[str] = []

    status = Waiting("ours", fake_ledger, View(), written.append, until).run(5)

    assert status.waiting == {"auth": 1}
    assert len(written) == lines
