"""The single downloads of a user: recorded at their start and their end, by any process."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest

from geodes_tasks.client import single_downloads
from geodes_tasks.errors import NotFoundError
from geodes_tasks.model.results import DownloadRecord, DownloadResult, Proof
from geodes_tasks.model.states import Outcome, State
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from tests.conftest import asset_of


@pytest.fixture
def conf(tmp_path: Path) -> Config:
    """Return settings with a state folder that is not there yet."""
    return config.load(state_dir=tmp_path / "state")


RESULT = DownloadResult(
    outcome=Outcome.DOWNLOADED, path="/data/a-1.zip", size_bytes=7, checksum=None, verified=True,
    bytes_transferred=7, source="geodes", proof=Proof(7, 1, 1), sources={"geodes": 7},
)  # fmt: skip


def test_a_download_is_running_and_then_done(conf: Config) -> None:
    """Another process sees it from its start; its end has path, bytes and times."""
    seen: list[DownloadRecord] = []

    def fetch() -> DownloadResult:
        seen.extend(single_downloads.read(conf))
        return RESULT

    single_downloads.recorded(conf, asset_of(b"content"), Path("/data/a.zip"), fetch)
    (running,), (done,) = seen, single_downloads.read(conf)

    assert (running.state, running.finished_at) == (State.STARTED, None)
    assert (done.state, done.outcome, done.path) == (State.SUCCESS, "DOWNLOADED", "/data/a-1.zip")
    assert (done.bytes_transferred, done.sources) == (7, {"geodes": 7})
    assert str(done.finished_at) >= str(done.started_at)


def test_failures_and_interruptions_are_told_apart(conf: Config) -> None:
    """An error is kept with its class; Ctrl-C leaves a cancelled download."""
    missing = Mock(side_effect=NotFoundError("https://x/a.zip", 404))
    ctrl_c = Mock(side_effect=KeyboardInterrupt)

    with pytest.raises(NotFoundError):
        single_downloads.recorded(conf, asset_of(b"content"), Path("/data/a.zip"), missing)
    with pytest.raises(KeyboardInterrupt):
        single_downloads.recorded(conf, asset_of(b"other", "b.zip"), Path("/data/b.zip"), ctrl_c)
    failed, stopped = single_downloads.read(conf)

    assert failed.error is not None
    assert (failed.state, failed.error.type) == (State.FAILURE, "NotFoundError")
    assert stopped.state is State.REVOKED


def test_a_killed_process_runs_nothing(conf: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The start of a process that is gone is no running download; half a line is no record."""
    monkeypatch.setattr("os.getpid", lambda: 2**22 + 1)
    single_downloads._append(
        conf, single_downloads._started(asset_of(b"content"), Path("/data/a.zip"))
    )
    with (conf.state_dir / single_downloads.FILE).open("a") as stream:
        stream.write('{"item_id": "x", "sta')

    (record,) = single_downloads.read(conf)

    assert record.state is State.REVOKED


def test_the_file_stays_small(conf: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file before is kept; older ones are not."""
    monkeypatch.setattr(single_downloads, "MOST_BYTES", 100)
    for number in range(4):
        asset = asset_of(b"content", f"{number}.zip")
        single_downloads.recorded(conf, asset, Path(f"/data/{number}.zip"), lambda: RESULT)

    assert len(list(conf.state_dir.iterdir())) == 2
    assert 1 <= len(single_downloads.read(conf)) <= 2


def test_a_damaged_line_costs_no_other_one(conf: Config) -> None:
    """A crash of the machine leaves any bytes."""
    single_downloads.recorded(conf, asset_of(b"content"), Path("/data/a.zip"), lambda: RESULT)
    (file,) = conf.state_dir.iterdir()
    file.write_bytes(b"\xff\0\n" + file.read_bytes())

    assert [one.state for one in single_downloads.read(conf)] == [State.SUCCESS]


def test_a_state_folder_that_takes_nothing(tmp_path: Path) -> None:
    """The download matters more than its record."""
    (tmp_path / "file").write_text("")
    conf = config.load(state_dir=tmp_path / "file" / "state")

    single_downloads.recorded(conf, asset_of(b"content"), Path("/data/a.zip"), lambda: RESULT)

    assert single_downloads.read(conf) == []
