"""The Geodes objects of this process: the last one serves items and queues without a Geodes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Protocol

from geodes_tasks.client.item_like import ItemLike
from geodes_tasks.errors import NoGeodesError
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config


class Portal(Protocol):
    """The part of a Geodes object that items and queues use."""

    @property
    def settings(self) -> Config:
        """Return the settings in force."""
        ...

    def download_item_archive(self, item: ItemLike, outfile: str | Path | None = None) -> Path:
        """Download the archive of an item."""
        ...

    def quicklook(self, item: ItemLike) -> bytes:
        """Return the bytes of an item's quicklook."""
        ...


class Portals:
    """The Geodes objects of this process, in the order in which they were made."""

    def __init__(self) -> None:
        """Begin without any."""
        self._made: list[Portal] = []

    def add(self, portal: Portal) -> None:
        """Record a new Geodes object."""
        self._made.append(portal)

    def remove(self, portal: Portal) -> None:
        """Forget a Geodes object that was closed."""
        self._made = [one for one in self._made if one is not portal]

    def last(self) -> Portal:
        """Return the newest Geodes object; warn if there are several.

        Raises:
            NoGeodesError: there is none.
        """
        if not self._made:
            raise NoGeodesError
        # A notebook cell run twice makes a second one, perhaps with another key or folder.
        if (count := len(self._made)) > 1:
            # Shown once for each line of the caller, and can be filtered, as in pygeodes.
            text = f"{count} Geodes objects were made: the last one is used"
            warnings.warn(text, stacklevel=3)
        return self._made[-1]

    def settings(self, conf: Config | None = None) -> Config:
        """Return a given configuration, else that of the newest Geodes object, else of the files.

        Raises:
            TypeError: what is given is no Config.
            ConfigError: there is no Geodes object, and a setting cannot be used.
        """
        return self.last().settings if conf is None and self._made else config.of(conf)


PORTALS = Portals()
"""Shared by items, queues and profiles, as in pygeodes, whose items use the last instance."""
