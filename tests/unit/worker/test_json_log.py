"""A worker's log as JSON: an object a line, with the fields of the event."""

from __future__ import annotations

import io
import json
import logging

import celery

from worker.json_log import use_json


def test_each_line_is_an_object_with_the_fields_of_the_event() -> None:
    """Message, level, time with offset and our own fields; a traceback does not break the line."""
    out = io.StringIO()
    logger = logging.Logger("geodes_tasks.x")  # noqa: LOG001 - of this test alone
    logger.addHandler(logging.StreamHandler(out))
    use_json(logger)

    logger.info("DOWNLOADED %s", "/d/a.zip", extra={"action": "download_done", "seconds": 1.5})
    try:
        open("/does/not/exist")  # noqa: PTH123, SIM115 - any error with a traceback
    except OSError:
        logger.exception("failed")

    done, failed = map(json.loads, out.getvalue().splitlines())
    assert (done["message"], done["level"]) == ("DOWNLOADED /d/a.zip", "INFO")
    assert (done["action"], done["seconds"]) == ("download_done", 1.5)
    assert done["time"].endswith("+00:00")
    assert "FileNotFoundError" in failed["traceback"]
    assert "\n" in failed["traceback"]


def test_each_line_of_a_task_names_its_download() -> None:
    """Whoever logs it, so that the lines of one download are found; those of others have none."""
    out = io.StringIO()
    logger = logging.Logger("geodes_tasks.x")  # noqa: LOG001 - of this test alone
    logger.addHandler(logging.StreamHandler(out))
    use_json(logger)
    app = celery.Celery(set_as_current=False)

    def task() -> None:
        logger.warning("reset")

    app.task(task, shared=False).apply(task_id="id-1")
    logger.warning("idle")

    inside, outside = map(json.loads, out.getvalue().splitlines())
    assert inside["download"] == "id-1"
    assert "download" not in outside
