"""The application of a worker node: ``celery -A worker worker``, ``celery -A worker flower``.

Importing it reads the settings and opens no connection.
"""

from __future__ import annotations

import sys

from geodes_tasks.monitoring import flower
from geodes_tasks.settings import config
from geodes_tasks.tasks.app import make
from worker.bootsteps import install

if "flower" in sys.argv[1:]:
    flower.configure()

app = install(make(config.load()))
app.set_default()
