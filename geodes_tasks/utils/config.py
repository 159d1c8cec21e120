"""Names of ``pygeodes.utils.config``."""

from geodes_tasks.monitoring.html import in_notebook as notebook_environment
from geodes_tasks.settings.config import Config

__all__ = ["Config", "notebook_environment"]
