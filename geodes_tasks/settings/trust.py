"""Certificates that TLS connections are checked against: those of the system, or a named bundle."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path


def tls_context(bundle: Path | None) -> ssl.SSLContext:
    """Return the context for TLS connections; it verifies certificates and host names.

    Args:
        bundle: File or folder with the only certificates to trust; None for those of this system,
            so that a proxy that inspects TLS works where the administrator trusts it.

    Raises:
        OSError: the bundle cannot be read or holds no certificate.
    """
    if bundle is None:
        return _system_context()
    path = bundle.expanduser()
    # With the time: a bundle that was replaced is read again, without a restart.
    return _bundle_context(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _system_context() -> ssl.SSLContext:
    # Loaded for TLS to a server without a bundle only.
    import certifi
    import truststore

    context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # A container may have no certificates of its own.
    context.load_verify_locations(certifi.where())
    return context


@lru_cache(maxsize=2)
def _bundle_context(path: Path, _mtime_ns: int) -> ssl.SSLContext:
    return ssl.create_default_context(
        cafile=None if path.is_dir() else str(path), capath=str(path) if path.is_dir() else None
    )
