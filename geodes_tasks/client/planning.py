"""From items to planned downloads: which assets, from where, to which path; or why not."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from geodes_tasks.client.item_like import check_text, check_texts
from geodes_tasks.errors import (
    ConfigError,
    GeodesTasksError,
    HostileNameError,
    ItemError,
    NoDataAssetError,
)
from geodes_tasks.ledger import Refusal, Request
from geodes_tasks.model import footprint
from geodes_tasks.model.asset import Asset, Unpack
from geodes_tasks.model.formatting import printable
from geodes_tasks.settings import config
from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.stac.item_properties import text_of
from geodes_tasks.transfer import destination

ARCHIVE = ".zip"
"""Suffix of the archives that can be unpacked."""
AUTO = "auto"
"""Any source that has the file, the best one first."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which assets of an item are wanted, from where, and where they go."""

    folder: Path
    """The download folder, absolute."""
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    layout: str = destination.DEFAULT_LAYOUT
    source: str = AUTO
    """``auto``, or the only source to use."""
    extract: bool = False
    """Whether zip archives become folders."""
    keep_archive: bool = False
    members: Sequence[str] = ()
    """Globs over the members of zip archives that are wanted; none for whole files."""
    portal_ranges: bool = False

    def __post_init__(self) -> None:
        """Refuse what no item could fit, and an option without the one that it belongs to.

        Raises:
            ConfigError: one of them cannot be used.
            TypeError: globs are no list of texts, or the layout is no text.
        """
        for name in ("include", "exclude", "members"):
            # The dataclass is frozen from here on.
            object.__setattr__(self, name, check_texts(name, getattr(self, name)))
        check_text("layout", self.layout)
        for pattern in self.members:
            if not pattern or not pattern.isprintable():
                problem = f"{printable(pattern)!r} matches no name"
                hint = "Give a glob, as in --members '*_B04_10m.jp2'."
                raise ConfigError("--members", problem, hint)
        if self.keep_archive and self.unpack is Unpack.NO:
            problem = "is for archives that are unpacked"
            raise ConfigError("--keep-archive", problem, "Add --extract, or leave it out.")
        if self.portal_ranges and not self.members:
            problem = "is for members of archives"
            raise ConfigError("--portal-ranges", problem, "Add --members, or leave it out.")
        destination.check_layout(self.layout)

    @property
    def unpack(self) -> Unpack:
        """Return what becomes of a zip archive."""
        if not (self.extract or self.members):
            return Unpack.NO
        return Unpack.KEEP if self.keep_archive else Unpack.DROP


@dataclass(frozen=True, slots=True)
class Planned:
    """The plan of one item: requests for downloads, and refusals."""

    requests: list[Request] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


def folder(given: str | Path) -> Path:
    """Return a download folder in the one spelling that its files' ids are derived from.

    Symbolic links stay: a worker may see them elsewhere than this machine does.

    Raises:
        ConfigError: its name is no text, for the ledger keeps UTF-8; or it is relative to a current
            folder that was removed.
        TypeError: it is no path.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"a download folder or file is named by text or a Path, not {given!r}")
    try:
        path = os.path.normpath(config.folder(given))
    except ValueError as error:
        raise ConfigError("--output-dir", str(error), "Go to a folder that exists.") from error
    if path != _text(path) or "\0" in path:
        problem = f"{printable(path)!r} is no text in UTF-8"
        raise ConfigError("--output-dir", problem, "Rename the folder, or choose another one.")
    return Path(path)


def _text(value: str) -> str:
    """Return a text that the ledger can keep: half a character of JSON is escaped."""
    return value.encode(errors="backslashreplace").decode()


def plan(
    found: Iterable[Mapping[str, Any] | GeodesTasksError], selection: Selection
) -> Iterator[Planned]:
    """Turn items, one after the other, into requests; what is wrong with one harms no other.

    Raises:
        ConfigError: the layout or the globs fit no item at all; nothing was yielded then.
    """
    plans = (
        Planned(refusals=[Refusal(str(item.args[0]), "", "", item)])
        if isinstance(item, GeodesTasksError)
        else _plan_item(item, selection)
        for item in found
    )
    # Held up to the first item that fits: a misspelt glob is one error, not one for each item.
    first = list[Planned]()
    for one in plans:
        first.append(one)
        if one.requests:
            break
    else:
        _check_selection(first, selection)
    yield from itertools.chain(first, plans)


def _check_selection(refused: Sequence[Planned], selection: Selection) -> None:
    """Raise the mistake of the user for which every item is refused, if there is one."""
    errors = [refusal.error for one in refused for refusal in one.refusals]
    if layout := next((error for error in errors if isinstance(error, ConfigError)), None):
        raise layout
    unfit = next((error for error in errors if isinstance(error, NoDataAssetError)), None)
    if unfit is not None and (selection.include or selection.exclude):
        option = "--include" if selection.include else "--exclude"
        raise ConfigError(option, str(unfit), "Correct the glob, for example --include '*.zip'.")


def _plan_item(item: Mapping[str, Any], selection: Selection) -> Planned:
    planned = Planned()

    def refuse(key: str, error: GeodesTasksError) -> None:
        # The id of the item, as in the records of its other files; messages have its name.
        name = printable(text_of(item.get("id"))) or stac_assets.item_name(item)
        collection = _text(str(item.get("collection") or ""))
        planned.refusals.append(Refusal(name, collection, _text(key), error))

    try:
        assets = stac_assets.assets(
            item, include=selection.include, exclude=selection.exclude, on_refusal=refuse
        )
    except ItemError as error:
        refuse("", error)
        return planned
    # The first keeps place and time for all, for a report that is STAC again. The whole item is
    # some 7 kB of JSON, and thousands of plans are held until their price is known.
    kept: Mapping[str, Any] | None = footprint.parts(item)
    for asset in assets:
        try:
            asset = _from_source(asset, selection.source)
            fields = partial(stac_assets.layout_fields, item, asset)
            path = destination.plan(asset, selection.folder, selection.layout, fields)
            is_archive = asset.title.lower().endswith(ARCHIVE)
            if selection.unpack and (is_archive or selection.members):
                path = _folder_of(path, asset)
                # The order in which patterns are given is no part of the identity of a set.
                wanted = tuple(sorted(set(selection.members)))
                asset = replace(
                    asset,
                    unpack=selection.unpack,
                    members=wanted,
                    portal_ranges=selection.portal_ranges,
                )
            planned.requests.append(Request(asset, path, kept))
            kept = None
        except (ItemError, ConfigError) as error:
            refuse(asset.key, error)
    return planned


def _folder_of(archive: str, asset: Asset) -> str:
    """Return the path of the folder that an archive becomes: its own without suffix.

    Raises:
        ItemError: it is no zip archive.
        HostileNameError: that is no name.
    """
    if not asset.title.lower().endswith(ARCHIVE):
        raise ItemError(asset.item_id, f"asset {asset.key!r} is no zip archive: it has no members")
    path = archive[: -len(ARCHIVE)] if archive.lower().endswith(ARCHIVE) else archive
    name = path.rpartition("/")[2]
    if problem := destination.refused_name(name):
        raise HostileNameError(asset.item_id, f"folder name {printable(name)!r} {problem}")
    return path


def _from_source(asset: Asset, source: str) -> Asset:
    """Keep only the href of the source that was asked for."""
    if source == AUTO:
        return asset
    if source not in asset.hrefs:
        has = ", ".join(sorted(asset.hrefs)) or "none"
        raise ItemError(asset.item_id, f"asset {asset.key!r} is not on {source} (it is on: {has})")
    return replace(asset, hrefs={source: asset.hrefs[source]})
