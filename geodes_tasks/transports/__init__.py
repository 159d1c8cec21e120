"""How an href is opened: the table of all transports; ``base`` is their contract.

A third transport is one file with one class and one line in ``TRANSPORTS``; the contract tests
run over every entry.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from geodes_tasks.transports.base import Body, Member, Transport
from geodes_tasks.transports.s3.credentials import are_thinkable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from geodes_tasks.settings.config import Settings

__all__ = ["TRANSPORTS", "Body", "Member", "Transport", "chosen", "create"]

# Strings, so that boto3 is loaded only where an S3 href is really opened.
TRANSPORTS: Mapping[str, str] = {
    "s3": "geodes_tasks.transports.s3.transport:S3Transport",
    "geodes": "geodes_tasks.transports.http.transport:HttpTransport",
}
"""Source name to class, the preferred source first."""


def create(source: str, settings: Settings) -> Transport:
    """Make the transport of a source.

    Raises:
        KeyError: no such source.
    """
    module, _, name = TRANSPORTS[source].partition(":")
    transport: Transport = getattr(import_module(module), name)(settings)
    return transport


def chosen(settings: Settings) -> list[str]:
    """Name the sources that can be used with these settings, the preferred one first.

    S3 comes first, and only where credentials are there: it is the faster one.
    """
    return [name for name in TRANSPORTS if name != "s3" or _has_credentials(settings)]


def _has_credentials(settings: Settings) -> bool:
    """Look for credentials; boto3 is loaded only where the first look finds a trace of some."""
    if not are_thinkable(settings):
        return False
    return bool(import_module("geodes_tasks.transports.s3.transport").has_credentials(settings))
