"""Which addresses may be opened, which of them is sent the key, and how they are shown.

An item file may come from a stranger, so an href is a wish, not an order: it must not send the
key away, nor make a worker call the inside of its network (RFC 9110 section 17.5, CWE-918).
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from geodes_tasks.errors import HrefRefusedError
from geodes_tasks.settings.urls import is_loopback

if TYPE_CHECKING:
    from geodes_tasks.settings.config import Settings

_PORTS = {"https": 443, "http": 80}

Origin = tuple[str, str, int]
"""Scheme, host in lower case, port."""


def redact(url: str) -> str:
    """Give an address fit for messages and logs: no query, no fragment, no user, no password."""
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(an address that cannot be read)"
    return urlunsplit((parts.scheme, netloc, parts.path, "", ""))


def origin(url: str) -> Origin:
    """Give scheme, host and port of an address, the default port filled in.

    Raises:
        ValueError: no host, or a port that is none.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)


class AddressPolicy:
    """What the settings say about addresses."""

    def __init__(self, settings: Settings) -> None:
        self._portal = origin(settings.portal_url)
        self._portal_start = f"{settings.portal_url.rstrip('/')}/".lower()
        self._portal_is_local = is_loopback(self._portal[1])
        self._allowed = frozenset(host.lower() for host in settings.allowed_hosts)

    def is_portal(self, url: str) -> bool:
        """Tell whether an address has exactly the portal's scheme, host and port."""
        if self._begins_as_portal(url):
            return True
        try:
            return origin(url) == self._portal
        except ValueError:
            return False

    def _begins_as_portal(self, url: str) -> bool:
        # Nearly every href does, and the first slash ends what names the host: no more to judge.
        return url.startswith(self._portal_start)

    def takes_key(self, url: str) -> bool:
        """Tell whether the key may go along: to the portal only, and never over a plain wire."""
        scheme, host, _ = self._portal
        return self.is_portal(url) and (scheme == "https" or is_loopback(host))

    def is_allowed(self, url: str) -> bool:
        """Tell whether ``allowed_hosts`` names the host, with or without its port."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        return host in self._allowed or f"{host}:{origin(url)[2]}" in self._allowed

    def check_href(self, url: str) -> None:
        """Let pass the portal, allowed hosts and, beside a loopback portal, loopback.

        Raises:
            HrefRefusedError: the address is not opened; its hint says how to allow it.
        """
        if self._begins_as_portal(url):
            return
        self._check_form(url)
        if not (self.is_portal(url) or self._is_trusted(url)):
            host = urlsplit(url).hostname
            raise HrefRefusedError(
                redact(url),
                f"{host} is not the portal",
                f"If you trust it: GEODES_TASKS_ALLOWED_HOSTS={host} (no key is sent there).",
            )

    def check_redirect(self, source: str, target: str) -> None:
        """Let pass where a server may send us on to: any https host, never back to plain http.

        Raises:
            HrefRefusedError: the redirect is not followed.
        """
        self._check_form(target)
        host = urlsplit(target).hostname
        if is_loopback(host) and not (self.is_portal(target) or self._is_trusted(target)):
            raise _refused(target, f"{redact(source)} redirects to this machine")
        downgrade = (urlsplit(source).scheme, urlsplit(target).scheme) == ("https", "http")
        if downgrade and not is_loopback(urlsplit(source).hostname):
            raise _refused(target, f"{redact(source)} redirects from https to plain http")

    def may_reach(self, host: str, address: str) -> bool:
        """Tell whether a host may turn out to be at an IP address.

        Only public addresses are called on a stranger's word; the portal and the allowed hosts
        may be anywhere, and beside a loopback portal so may loopback.
        """
        if host == self._portal[1] or host in self._allowed or _among(host, self._allowed):
            return True
        ip = ipaddress.ip_address(address.partition("%")[0])
        ip = getattr(ip, "ipv4_mapped", None) or ip
        return ip.is_global or (ip.is_loopback and self._portal_is_local)

    def _is_trusted(self, url: str) -> bool:
        """Tell whether an address other than the portal is opened as an href."""
        local = self._portal_is_local and is_loopback(urlsplit(url).hostname)
        return local or self.is_allowed(url)

    def _check_form(self, url: str) -> None:
        """Refuse what is no web address, carries a password, or is plain http over a network."""
        try:
            scheme, host, _ = origin(url)
        except ValueError as error:
            raise _refused(url, f"this is no web address ({error})") from None
        if scheme not in _PORTS:
            raise _refused(url, f"{scheme or 'a path'} is not opened here, only https is")
        if scheme == "http" and not is_loopback(host):
            raise _refused(url, "plain http is opened on loopback only")
        if "@" in urlsplit(url).netloc:
            raise _refused(url, "it carries a user name or password")
        self._check_literal(host)

    def _check_literal(self, host: str) -> None:
        """Refuse an inside address written as such; names are judged when they are resolved."""
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return
        if not self.may_reach(host, host):
            raise refused_inside(host)


def refused_inside(host: str) -> HrefRefusedError:
    """Give the error for a host whose address is no public one."""
    hint = f"If you trust it: GEODES_TASKS_ALLOWED_HOSTS={host} (no key is sent there)."
    return HrefRefusedError(redact(f"//{host}"), "the address is inside a private network", hint)


def _among(host: str, allowed: frozenset[str]) -> bool:
    """Tell whether ``allowed`` names a host together with some port."""
    return any(entry.rpartition(":")[0] == host for entry in allowed)


def _refused(url: str, problem: str) -> HrefRefusedError:
    return HrefRefusedError(redact(url), problem)
