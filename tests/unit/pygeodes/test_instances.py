"""Items download themselves with the last Geodes object of the process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from geodes_tasks.errors import NoGeodesError
from geodes_tasks.pygeodes import item as items
from geodes_tasks.pygeodes.instances import Portals
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.settings import config
from tests.unit.pygeodes.test_item import made


class FakePortal:
    """A Geodes object that records its downloads."""

    def __init__(self, settings: Any = None) -> None:
        """Begin without requests."""
        self.settings = settings
        self.asked: list[Any] = []

    def download_item_archive(self, item: Any, outfile: str | Path | None = None) -> Any:
        """Record item and name."""
        self.asked.append((item.id, outfile))

    def quicklook(self, item: Any) -> bytes:
        """Return the start of a PNG file."""
        return b"\x89PNG"


def test_the_last_portal_downloads_and_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """``item.download_archive()`` uses the last Geodes object, and says so when there are two."""
    first, last, portals = FakePortal(), FakePortal(), Portals()
    monkeypatch.setattr(items, "PORTALS", portals)
    portals.add(first)
    portals.add(last)
    item = Item.from_dict(made())

    with pytest.warns(UserWarning, match="2 Geodes objects were made: the last one is used"):
        item.download_archive(outfile="my.zip")
    portals.remove(first)
    item.download_archive()

    assert (first.asked, last.asked) == ([], [(item.id, "my.zip"), (item.id, None)])
    assert item.get_quicklook_content_in_base64() == "iVBORw=="


def test_without_a_portal_an_item_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """An item that is to download itself before there is a Geodes object names what is missing."""
    monkeypatch.setattr(items, "PORTALS", Portals())
    item = Item.from_dict(made())

    with pytest.raises(NoGeodesError, match="no Geodes object") as caught:
        item.download_archive()

    assert "geodes = Geodes(" in caught.value.hint


def test_queues_take_the_settings_of_the_last_portal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the newest Geodes object are used; without any, those of the environment."""
    monkeypatch.setenv("GEODES_TASKS_ACCOUNT", "environment")
    portals = Portals()
    before = portals.settings()
    portals.add(FakePortal(config.load(account="first")))
    portals.add(FakePortal(config.load(account="last")))

    with pytest.warns(UserWarning, match="2 Geodes objects"):
        after = portals.settings()

    assert (before.account, after.account) == ("environment", "last")
