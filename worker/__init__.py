"""What a worker node runs: ``celery -A worker worker``, ``celery -A worker flower``.

Importing it reads the settings and opens no connection.
"""

from __future__ import annotations

from geodes_tasks import config
from geodes_tasks.app import make
from worker.steps import install

app = install(make(config.load()))
app.set_default()
