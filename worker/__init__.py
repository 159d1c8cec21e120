"""What a worker node runs: ``celery -A worker worker``, ``celery -A worker flower``.

Importing it reads the settings and opens no connection.
"""

from __future__ import annotations

import sys

from geodes_tasks import config, flowerconfig
from geodes_tasks.app import make
from worker.steps import install

if "flower" in sys.argv[1:]:
    flowerconfig.configure()

app = install(make(config.load()))
app.set_default()
