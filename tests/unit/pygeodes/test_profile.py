"""The profile of downloads, read while runs end."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from geodes_tasks.client import ledgers
from geodes_tasks.errors import LedgerUnavailableError
from geodes_tasks.ledger import Ledger
from geodes_tasks.pygeodes import profile as profiles
from geodes_tasks.pygeodes.profile import Profile
from geodes_tasks.settings import config
from tests.unit.ledger.test_ledger import ask, request_of


@pytest.mark.parametrize("is_cluster", [False, True])
def test_a_run_that_ends_while_its_ledger_is_read(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *, is_cluster: bool
) -> None:
    """A private server that ends ends no watching; a Redis of a cluster that is away does."""

    @contextlib.contextmanager
    def ledger_of(*_: object) -> Iterator[Ledger]:
        yield fake_ledger

    def gone(*_: object) -> list[str]:
        raise LedgerUnavailableError("redis+socket:/gone.sock", "No such file or directory")

    monkeypatch.setattr(profiles, "known_folders", lambda *_: [tmp_path])
    monkeypatch.setattr(ledgers, "ledger_of", ledger_of)
    monkeypatch.setattr(Ledger, "of", lambda _: fake_ledger)
    monkeypatch.setattr(fake_ledger.reading, "batches", gone)
    named: dict[str, Any] = {"redis_url": "redis://127.0.0.1:1"} if is_cluster else {}
    settings = config.load(state_dir=tmp_path, **named)

    if is_cluster:
        with pytest.raises(LedgerUnavailableError, match="No such file"):
            Profile.load(settings)
    else:
        assert Profile.load(settings).downloads == {}


def test_a_watched_profile_is_the_picture_of_watch(
    fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a terminal it draws the same sections, the batches that are not over first."""
    ask(fake_ledger, request_of("a"), batch="open")
    out = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr("geodes_tasks.monitoring.html.console", lambda: out)
    monkeypatch.setattr(profiles, "known_folders", lambda *_: [Path("downloads")])
    monkeypatch.setattr(ledgers, "ledger_of", lambda *_: contextlib.nullcontext(fake_ledger))

    with profiles._shown(config.load(), plain=False) as show:
        show(Profile())
        during = out.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
        fake_ledger.control.cancel([request_of("a").download_id])
        show(Profile())

    assert "BATCHES" in during
    assert "0 of 1 done, 1 queued" in during
    assert "no worker is alive" in during
    # The screen is not left empty.
    text = out.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    assert "Current downloads: 0 | Pending downloads: 0" in text


def test_a_watched_profile_leaves_a_line_in_a_notebook(monkeypatch: pytest.MonkeyPatch) -> None:
    """When nothing is unfinished the cell is not empty."""
    drawn: list[str] = []
    monkeypatch.setattr("geodes_tasks.monitoring.html.in_notebook", lambda: True)
    monkeypatch.setattr(
        "geodes_tasks.monitoring.html.Cell.draw", lambda _, text: drawn.append(text)
    )
    monkeypatch.setattr(profiles, "known_folders", lambda *_: [])

    with profiles._shown(config.load(), plain=False) as show:
        show(Profile())

    assert len(drawn) == 1
    assert "Current downloads: 0 | Pending downloads: 0" in drawn[0]
