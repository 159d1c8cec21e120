"""Addresses in the settings: checked, and without their password for messages."""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit, urlunsplit


@lru_cache(maxsize=1024)
def is_loopback(host: str | None) -> bool:
    """Return whether a host name is this machine; no name is resolved."""
    # RFC 6761 section 6.3 reserves localhost; Debian's /etc/hosts adds ip6-localhost.
    if host in {"localhost", "ip6-localhost"}:
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def masked(url: str) -> str:
    """Return a URL with stars in place of its password, and without its query."""
    if "//" not in url:
        # Proxy variables may lack the scheme, and `user:secret@host` would be read as one.
        return masked(f"//{url}").removeprefix("//")
    try:
        parts = urlsplit(url)
    except ValueError:
        return "(an address that cannot be read)"
    # redis-py reads a password from the query too: ?password=.
    parts = parts._replace(query="")
    user, at, host = parts.netloc.rpartition("@")
    if at and ":" in user:
        parts = parts._replace(netloc=f"{user.partition(':')[0]}:***@{host}")
    # `redis:/:secret@host`, with a slash too few, has its password in the path.
    before, at, host = parts.path.rpartition("@")
    if at and ":" in before:
        parts = parts._replace(path=f"{before.partition(':')[0]}:***@{host}")
    return urlunsplit(parts)


def web_url(value: object) -> str:
    """Return the address of a web server without a final slash.

    Raises:
        ValueError: not https (http for loopback), no host, an empty port, or a password in it.
    """
    text = str(value).strip()
    parts = urlsplit(text)
    if parts.username or parts.password:
        # The text is not quoted: it holds the password.
        raise ValueError("an address with a user name or password in it is not accepted")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"{text!r} is not an address; write https://host")
    if parts.port is None and parts.netloc.endswith(":"):
        raise ValueError(f"{text!r} lacks its port")
    if parts.scheme == "http" and not is_loopback(parts.hostname):
        raise ValueError(f"{text!r}: plain http is accepted for loopback only; write https://")
    return text.rstrip("/")
