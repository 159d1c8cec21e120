"""Table of the transports, which open hrefs; ``base`` is their contract.

A third transport is one file with one class and one line in ``TRANSPORTS``; the contract tests
run over every entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module

from geodes_tasks.errors import HrefRefusedError
from geodes_tasks.model.asset import Asset
from geodes_tasks.settings.config import Config
from geodes_tasks.transports.base import Body, Member, Transport
from geodes_tasks.transports.s3.credentials import has_credentials

__all__ = [
    "TRANSPORTS", "Body", "Member", "Source", "Transport", "chosen", "create", "no_source",
    "sources_of",
]  # fmt: skip

# Strings, so that each transport loads its libraries only where it is used.
TRANSPORTS: Mapping[str, str] = {
    "s3": "geodes_tasks.transports.s3.transport:S3Transport",
    "geodes": "geodes_tasks.transports.http.transport:HttpTransport",
}
"""Source name to class, the preferred source first."""


def create(source: str, settings: Config) -> Transport:
    """Build the transport of a source.

    Raises:
        KeyError: there is no such source.
    """
    module, _, name = TRANSPORTS[source].partition(":")
    transport: Transport = getattr(import_module(module), name)(settings)
    return transport


def chosen(settings: Config) -> list[str]:
    """Return the sources that these settings can use, the preferred one first.

    S3 is the faster one and comes first, but only with credentials.
    """
    usable = has_credentials(settings)
    return [name for name in TRANSPORTS if name != "s3" or usable]


@dataclass(frozen=True, slots=True)
class Source:
    """A source of one asset: where it is there, and how it is opened."""

    name: str
    """``geodes`` or ``s3``."""
    transport: Transport
    href: str


def sources_of(asset: Asset, transports: Mapping[str, Transport]) -> list[Source]:
    """Return the sources that have an asset, in the order of the transports."""
    return [
        Source(name, transport, asset.hrefs[name])
        for name, transport in transports.items()
        if name in asset.hrefs
    ]


def no_source(asset: Asset) -> HrefRefusedError:
    """Return the error of an asset that no source in use has: S3 without credentials."""
    known = ", ".join(sorted(asset.hrefs)) or "none"
    hint = (
        "S3 needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
        "or leave out --source s3."
    )
    return HrefRefusedError(asset.key, f"no source in use has it (it has: {known})", hint)
