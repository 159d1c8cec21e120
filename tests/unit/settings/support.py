"""A key and a configuration file of pygeodes for tests of settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from geodes_tasks.settings.files import PYGEODES_FILE

SECRET = "0123456789abcdef-secret"


def pygeodes_file(path: str = PYGEODES_FILE, **content: Any) -> Path:
    """Write a pygeodes configuration file into the current folder."""
    Path(path).write_text(json.dumps(content))
    return Path(path)
