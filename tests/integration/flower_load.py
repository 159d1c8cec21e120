"""Many tasks for Flower: the events that a worker would send of them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from geodes_tasks.tasks.app import TASK, Sender

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Config


def send_events(settings: Config, count: int) -> bool:
    """Send what a worker tells of so many downloads, moving or done. Gives False: not seen yet."""
    app = Sender(settings).app
    with (
        app.connection_for_write() as link,
        app.events.Dispatcher(link, hostname="load@host", buffer_while_offline=False) as dispatcher,
    ):
        for number in range(count):
            name = str(uuid.UUID(int=number))
            kwargs = str({"item": f"URN:{number}:V1", "file": f"{number}.zip", "size": "2.1 MB"})
            dispatcher.send("task-received", uuid=name, name=TASK, args="()", kwargs=kwargs)
            dispatcher.send("task-started", uuid=name)
            if number % 2:
                dispatcher.send("task-STARTED", uuid=name, result="42 % of 2.1 MB, 1.0 MB/s")
            else:
                dispatcher.send("task-succeeded", uuid=name, result="'DOWNLOADED'", runtime=1.0)
    return False
