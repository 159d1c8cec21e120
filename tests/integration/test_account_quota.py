"""One quota for the fleet: the own window is kept, a refusal is waited out, a number is shown."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from geodes_tasks import enqueue
from geodes_tasks.model.states import State
from geodes_tasks.settings import config
from geodes_tasks.settings.quota import Quota as QuotaSetting
from tests.integration.fleet import fleet, refused
from tests.integration.test_cli import CommandLine, one_object
from tests.servers import wait_until
from tests.standin import KiB, Quota

if TYPE_CHECKING:
    from geodes_tasks.ledger import Ledger
    from geodes_tasks.settings.config import Config
    from tests.conftest import WorkerFactory
    from tests.standin import StandIn

LIMIT, WINDOW_S, ITEMS = 10, 4.0, 25
WAIT_S = 60.0


def took(standin: StandIn) -> float:
    """Give the seconds from the first request for a file to the last."""
    moments = [one.started_at for one in standin.downloads()]
    return max(moments) - min(moments)


@pytest.mark.slow
@pytest.mark.parametrize("sliding", [False, True])
def test_a_known_quota_is_never_refused(
    standin: StandIn, settings: Config, worker: WorkerFactory, sliding: bool
) -> None:
    """Three workers, ten in a window, 25 files: no request too many, all done in three windows."""
    settings = settings.replace(quota=QuotaSetting(LIMIT, WINDOW_S))
    standin.quota = Quota(LIMIT, WINDOW_S, sliding=sliding)
    fleet(worker, settings)

    batch = enqueue([standin.add_item(KiB) for _ in range(ITEMS)], conf=settings)
    status = batch.wait(WAIT_S)

    assert status.states[State.SUCCESS] == ITEMS
    assert refused(standin) == []
    assert len(standin.downloads()) == ITEMS
    assert took(standin) < 3 * WINDOW_S
    assert {one.attempts for one in batch.results()} == {1}


@pytest.mark.parametrize("says", [None, 50], ids=["true", "repeated"])
def test_a_refusal_is_waited_out_by_one_that_tries(
    standin: StandIn, settings: Config, worker: WorkerFactory, says: int | None
) -> None:
    """QUOTA=off, ten in a window: no more are refused than run at once, then one a period.

    The same where the portal says all the time that fifty are left.
    """
    settings = settings.replace(quota=None, probe_seconds=1.0)
    standin.quota = Quota(LIMIT, WINDOW_S)
    standin.settings.quota_says = says
    fleet(worker, settings)

    batch = enqueue([standin.add_item(KiB) for _ in range(ITEMS)], conf=settings)
    status = batch.wait(WAIT_S)

    moments = [one.started_at for one in refused(standin)]
    polls = [one for one in standin.requests if one.route == "quota"]
    soon = moments[0] + 0.5
    # Each answer that names requests left lets one download try, the first one too.
    tries = [one for one in polls if says and moments[0] < (one.finished_at or 0) <= soon]
    assert status.states[State.SUCCESS] == ITEMS
    assert sum(moment <= soon for moment in moments) <= settings.max_concurrent + len(tries)
    # Each window ends with as many refusals as run at once; besides, one a second tries.
    assert len(moments) <= 3 * settings.max_concurrent + 2 * took(standin)
    assert took(standin) < 3 * WINDOW_S + 6.0
    assert {one.attempts for one in batch.results()} == {1}
    assert len(polls) <= took(standin) + 4


def test_a_number_that_the_portal_repeats_stops_nothing(
    standin: StandIn, settings: Config, worker: WorkerFactory, ledger: Ledger
) -> None:
    """QUOTA=off, 150 files, and a portal that says each time that 50 are left: nothing waits."""
    standin.settings.quota_says = 50
    settings = settings.replace(quota=None, probe_seconds=1.0)
    fleet(worker, settings)

    batch = enqueue([standin.add_item(64 * KiB) for _ in range(150)], conf=settings)
    status = batch.wait(WAIT_S)

    (account,) = ledger.account.states()
    assert status.states[State.SUCCESS] == 150
    assert [one.history for one in batch.results() if one.history] == []
    assert (account.paused, account.portal_quota_left) == (None, 50)
    assert any(one.route == "quota" for one in standin.requests)


@pytest.mark.parametrize("how", [{"status": 403}, {"status": 200}])
def test_a_refused_quota_is_told_with_its_time(
    standin: StandIn,
    settings: Config,
    worker: WorkerFactory,
    ledger: Ledger,
    how: dict[str, int],
) -> None:
    """``status`` says what is waited for and until when; nothing is saved, no slot is held."""
    cli = CommandLine(standin)
    cli.settings |= config.environment(settings)
    standin.settings.quota_status = 404
    standin.fault(None, "quota403", **how)
    worker()
    items = [standin.add_item(KiB) for _ in range(4)]

    batch = enqueue(items, batch="b", conf=settings)
    wait_until(lambda: batch.status().waiting.get("quota"), WAIT_S, "the quota is used up")
    told = cli("status", "b")
    data = one_object(cli("status", "b", "--json").stdout)

    assert re.search(r"^\d waiting for the quota next at ", told.stdout, re.MULTILINE)
    assert re.search(r"^\w+ waiting for the quota, next at ", told.stdout, re.MULTILINE)
    (pause,) = data["paused"]
    assert (pause["kind"], pause["reason"]) == ("account", "quota")
    until = datetime.fromisoformat(pause["until"]).timestamp()
    assert 30 < until - ledger.connection.server_time() <= 60
    assert ledger.account.states()[0].probing
    assert ledger.reading.running() == []
    assert not Path(settings.download_dir).exists() or not any(
        Path(settings.download_dir).rglob("*.zip")
    )
