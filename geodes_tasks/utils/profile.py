"""Names of ``pygeodes.utils.profile``."""

from geodes_tasks.pygeodes.download_queue import DownloadQueue
from geodes_tasks.pygeodes.profile import Profile
from geodes_tasks.pygeodes.profile import ProfileDownload as Download

__all__ = ["Download", "DownloadQueue", "Profile"]
