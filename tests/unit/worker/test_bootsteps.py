"""The boot steps of a worker: what they change of Celery's own parts."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import pytest

from geodes_tasks.settings import config
from geodes_tasks.tasks import app
from worker import bootsteps


@pytest.mark.parametrize(
    ("loglevel", "celery_says_it"), [(logging.DEBUG, True), (logging.INFO, False)]
)
def test_a_file_has_one_line_in_the_log(loglevel: int, celery_says_it: bool) -> None:
    """Celery's own lines on a task that was taken and how it ended are there with DEBUG."""
    loggers = [logging.getLogger(name) for name in ("celery.worker.strategy", "celery.app.trace")]
    before = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.DEBUG)
        bootsteps._quiet_celery(loglevel)

        assert [one.isEnabledFor(logging.INFO) for one in loggers] == [celery_says_it] * 2
        assert all(one.isEnabledFor(logging.ERROR) for one in loggers)
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.setLevel(level)


def test_a_worker_names_its_broker_without_passwords() -> None:
    """Flower shows to every viewer what a worker answers to ``celery inspect stats``."""
    address = "sentinel://user:of-redis@h1:1;h2:2/3?master_name=geodes&sentinel_password=of-them"
    connection = app.make(config.load(redis_url=address)).connection()
    parent = SimpleNamespace(connection=connection, steps=[])

    shown = bootsteps.MessagesStep(parent).info(parent)

    assert "of-them" in str(connection.info())
    named = {"transport": "sentinel", "hostname": "h1", "port": 1, "virtual_host": "3"}
    assert shown == {"broker": {**named, "userid": "user"}}
