"""Directories of archives in the ledger: found by checksum, bounded, and gone after a day."""

from __future__ import annotations

import random
from dataclasses import replace

import fakeredis
import pytest

from geodes_tasks.ledger import Ledger, directories
from tests.conftest import asset_of, some_bytes


@pytest.mark.parametrize("version", [(6, 2), (7,)])
def test_a_directory_is_kept_by_the_checksum_of_its_archive(version: tuple[int, ...]) -> None:
    """Another archive does not have it, nor one without a checksum; a day later it is gone."""
    server = fakeredis.FakeServer(version=version)
    fake_ledger = Ledger(fakeredis.FakeRedis(server=server, decode_responses=True))
    asset, content = asset_of(b"archive"), b"PK\x01\x02" + some_bytes(900)

    fake_ledger.directories.keep(asset, content)
    fake_ledger.directories.keep(replace(asset, checksum=None), b"nothing proves it")

    assert fake_ledger.directories.find(asset) == content
    assert fake_ledger.directories.find(asset_of(b"another")) == b""
    assert fake_ledger.directories.find(replace(asset, checksum=None)) == b""
    client, key = fake_ledger.connection.client, fake_ledger.connection.key("directories")
    assert 0 < client.ttl(key) <= directories.KEPT_S


def test_directories_are_bounded(fake_ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither many nor large ones fill Redis; one that is kept already can be replaced."""
    monkeypatch.setattr(directories, "MOST_KEPT", 2)
    assets = [asset_of(bytes([number])) for number in range(3)]

    for asset in assets:
        fake_ledger.directories.keep(asset, b"old")
    fake_ledger.directories.keep(assets[0], b"new")
    fake_ledger.directories.keep(assets[1], some_bytes(directories.MAX_BYTES))

    assert [fake_ledger.directories.find(one) for one in assets] == [b"new", b"old", b""]


def test_rubbish_in_place_of_directories_is_harmless(fake_ledger: Ledger) -> None:
    """What cannot be read counts as none."""
    client, key = fake_ledger.connection.client, fake_ledger.connection.key("directories")
    asset = asset_of(b"archive")
    for rubbish in ("", "{}", "AAAA", "\u00e9", random.Random(1).randbytes(30).hex()):
        client.hset(key, str(asset.checksum), rubbish)
        assert fake_ledger.directories.find(asset) == b""
