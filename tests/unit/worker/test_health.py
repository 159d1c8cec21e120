"""The probe tells a worker that lives from one that does not, and waits for Redis when told to."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from celery.utils.nodenames import default_nodename

from geodes_tasks.ledger import Ledger
from geodes_tasks.settings import config
from worker.health import judge, main, usual_name

if TYPE_CHECKING:
    from tests.conftest import Clock

NAME = "celery@node7"


def test_a_worker_that_was_just_seen(fake_ledger: Ledger, clock: Clock) -> None:
    """Its last look at the ledger is seconds old."""
    fake_ledger.dispatch.recover(NAME, 4)
    clock.advance(8)

    assert judge(fake_ledger, NAME) == (0, f"{NAME} was seen 8 s ago")


def test_a_worker_that_went_silent(fake_ledger: Ledger, clock: Clock) -> None:
    """Half a minute without a look is too long."""
    fake_ledger.dispatch.recover(NAME, 4)
    clock.advance(31)

    assert judge(fake_ledger, NAME, live=True) == (1, f"{NAME} was seen 31 s ago")


def test_a_worker_that_never_was(fake_ledger: Ledger) -> None:
    """A name that no worker has is said to be unknown."""
    assert judge(fake_ledger, NAME, live=True) == (1, f"{NAME} is not in the ledger")


@pytest.mark.parametrize(("live", "code"), [(False, 1), (True, 0)])
def test_redis_away(live: bool, code: int) -> None:
    """Nobody can be seen then; who would kill for it says so and is told that all is well."""
    ledger = Ledger.of(config.load(redis_url="redis://:hush@127.0.0.1:1/0"))

    answer, line = judge(ledger, NAME, live=live)

    assert answer == code
    assert "no answer from Redis" in line
    assert "hush" not in line


def test_a_setting_that_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A probe with a wrong setting says which one, in one line."""
    monkeypatch.setenv("GEODES_TASKS_REDIS_PASSWORD_FILE", "/nowhere/password")

    assert main([]) == 1
    assert "/nowhere/password cannot be read: No such file" in capsys.readouterr().err


def test_the_name_of_a_worker_that_has_none() -> None:
    """The probe looks for the name that Celery gives by itself."""
    assert usual_name() == default_nodename(None)


def test_it_runs_as_a_module() -> None:
    """As a supervisor calls it, it ends with its code and one line."""
    command = [sys.executable, "-m", "worker.health", NAME]
    env = os.environ | {"GEODES_TASKS_REDIS_URL": "redis://127.0.0.1:1/0"}

    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)

    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
