"""The checks of a server: the same for a worker's start and for ``doctor``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from geodes_tasks.ledger.checks import (
    DEFAULT_USER,
    Level,
    default_user_check,
    run_id,
    server_checks,
)
from geodes_tasks.settings import config
from tests.servers import RedisServer
from worker import preflight

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from geodes_tasks.ledger import Ledger


class LimitedServer(RedisServer):
    """A server whose only user may neither read INFO nor look at users."""

    def _command(self) -> list[str]:
        renamed = ("INFO", "ACL")
        return [*super()._command(), *(w for c in renamed for w in ("--rename-command", c, ""))]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """Start a server of its own, to be misconfigured."""
    with RedisServer(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def ledger(server: RedisServer) -> Iterator[Ledger]:
    """Return the ledger on that server."""
    from geodes_tasks.ledger import Ledger

    ledger = Ledger.of(config.load(redis_url=server.url))
    yield ledger
    ledger.close()


def bad(ledger: Ledger) -> dict[str, Level]:
    """Return the checks that are not ok, by name."""
    return {
        one.name: one.level for one in server_checks(ledger.connection) if one.level is not Level.OK
    }


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({}, {}),
        ({"appendonly": "no"}, {"redis persistence": Level.WARNING}),
        ({"maxmemory-policy": "volatile-ttl"}, {"redis eviction": Level.PROBLEM}),
        ({"maxmemory": "64mb"}, {}),
        ({"maxmemory": "1"}, {"redis memory": Level.PROBLEM}),
        (
            {"appendonly": "no", "maxmemory-policy": "allkeys-lru"},
            {"redis persistence": Level.WARNING, "redis eviction": Level.PROBLEM},
        ),
    ],
)
def test_a_server_that_can_lose_downloads_is_found(
    ledger: Ledger, settings: dict[str, str], found: dict[str, Level]
) -> None:
    """Each setting that puts records at risk is one check, with the remedy."""
    for name, value in settings.items():
        ledger.connection.client.config_set(name, value)

    assert bad(ledger) == found
    assert all(one.mend for one in server_checks(ledger.connection) if one.level is not Level.OK)


def test_a_user_without_rights_gets_no_error(tmp_path: Path) -> None:
    """Where INFO and ACL are refused the checks are skipped, and name what they could not read."""
    from geodes_tasks.ledger import Ledger

    with LimitedServer(tmp_path / "limited") as server:
        ledger = Ledger.of(config.load(redis_url=server.url))
        checks = {one.name: one for one in server_checks(ledger.connection)}
        restart = default_user_check(ledger.connection)
        ledger.close()

    assert "may not read INFO" in checks["redis persistence"].text
    assert restart.level is Level.OK
    assert DEFAULT_USER in restart.text


def test_a_worker_logs_what_doctor_prints(
    server: RedisServer, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    """The start of a worker logs each check that is not ok, in the words of ``doctor``."""
    ledger.connection.client.config_set("appendonly", "no")
    ledger.connection.client.config_set("maxmemory-policy", "allkeys-lru")
    expected = [str(one) for one in server_checks(ledger.connection) if one.level is not Level.OK]

    with caplog.at_level(logging.WARNING, "worker.preflight"):
        preflight.report(config.load(redis_url=server.url))

    assert caplog.messages == expected
    assert "Set `appendonly yes` in redis.conf." in expected[0]


def test_two_servers_have_two_ids(tmp_path: Path, ledger: Ledger) -> None:
    """A server that replaced another one is told apart; the same one keeps its id."""
    from geodes_tasks.ledger import Ledger

    with RedisServer(tmp_path / "other") as server:
        other = Ledger.of(config.load(redis_url=server.url))
        theirs = run_id(other.connection)
        other.close()

    assert theirs != run_id(ledger.connection) == run_id(ledger.connection)
