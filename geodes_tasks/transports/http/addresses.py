"""Rules for addresses: which may be opened, which receives the key, and how they are shown.

An item file may come from a stranger, so its hrefs are not trusted: they must not send the key
to another host, nor make a worker connect to hosts inside its network (CWE-918).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from html import escape
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from geodes_tasks.errors import HrefRefusedError
from geodes_tasks.model.formatting import escaped
from geodes_tasks.settings.config import Config
from geodes_tasks.settings.urls import is_loopback

# The default ports of RFC 9110 sections 4.2.1 and 4.2.2.
_PORTS = {"https": 443, "http": 80}

# Nothing that is encoded, left out or read in two ways: ``%``, empty segments, those of dots.
_PLAIN = re.compile(r"https?://[a-z0-9.-]+(:[1-9][0-9]*)?(/[A-Za-z0-9_-][A-Za-z0-9_.~:-]*)+")

NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
"""Prefix under which a NAT64 gateway reaches IPv4 hosts (RFC 6052 section 2.1)."""

LOOPBACK = "127.0.0.1"
"""Address of this machine, for the names that mean it."""

SECRET_LENGTH = 6
"""Characters of the shortest value in a query that counts as a secret."""

Origin = tuple[str, str, int]
"""Scheme, host in lower case, port."""


def redact(url: str) -> str:
    """Return an address for messages and logs, without query, fragment, user and password."""
    # The query of a presigned S3 address is a credential until it expires.
    try:
        parts = urlsplit(url)
        netloc = parts.netloc.rpartition("@")[2]
    except ValueError:
        return "(an address that cannot be read)"
    return escaped(urlunsplit((parts.scheme, netloc, parts.path, "", "")))


def query_secrets(url: str) -> set[str]:
    """Return the parts of an address that may be a signature: its query and the values in it."""
    query = url.partition("#")[0].partition("?")[2]
    values = (pair.partition("=")[2] for pair in query.split("&"))
    return {query, *(value for value in values if len(value) >= SECRET_LENGTH)} - {""}


def scrubbed(text: str, secrets: set[str]) -> str:
    """Return a text of a server without secrets that it quotes, whatever encoding it uses."""
    # Error pages echo headers and addresses, and this text goes to logs and Redis.
    forms = set[str]()
    for secret in secrets:
        plain = unquote(secret)
        forms |= {secret, plain, quote(plain, safe=""), plain.replace("/", r"\/")}
    forms |= {escape(form) for form in forms}
    pattern = "|".join(re.escape(form) for form in sorted(forms, key=len, reverse=True))
    return re.sub(pattern, "***", text, flags=re.IGNORECASE) if pattern else text


def site(url: str) -> str:
    """Return scheme and authority of a prepared address: what is in front of its path."""
    scheme, mark, rest = url.partition("://")
    return scheme + mark + rest.partition("/")[0]


def origin(url: str) -> Origin:
    """Return scheme, host and port of an address; the port may be the default one.

    Raises:
        ValueError: the address has no host, or its port is not a valid number.
    """
    parts = urlsplit(url)
    if not parts.hostname:
        raise ValueError("no host")
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme, 0)


class AddressPolicy:
    """Checks addresses against the settings: the portal, the datalake and the allowed hosts."""

    def __init__(self, settings: Config, trusted: str = "") -> None:
        """Read the settings; ``trusted`` is one more host that may be opened."""
        self._portal = origin(settings.portal_url)
        self._portal_start = f"{settings.portal_url.rstrip('/')}/".lower()
        self._portal_is_local = is_loopback(self._portal[1])
        # The portal redirects to the datalake, which has a private address inside CNES.
        _, datalake, port = origin(settings.s3_endpoint_url)
        hosts = {host.lower() for host in (*settings.allowed_hosts, trusted) if host}
        self._allowed = frozenset(hosts | {f"{datalake}:{port}"})
        # With their ports: the other services of such a host are not to be reached.
        self._may_be_inside = self._allowed | {f"{self._portal[1]}:{self._portal[2]}"}

    def secured(self, url: str) -> str:
        """Return plain http to the portal's own host as https: catalogues behind TLS write it."""
        scheme, host, port = self._portal
        start, _, rest = url.partition("://")
        if scheme != "https" or start.lower() != "http":
            return url
        authority, slash, path = rest.partition("/")
        is_own = authority.lower() in {host, f"{host}:80", f"{host}:{port}"}
        return f"{self._portal_start}{path}" if is_own and slash else url

    def is_portal(self, url: str) -> bool:
        """Return whether an address has exactly the scheme, host and port of the portal."""
        if self._begins_as_portal(url):
            return True
        try:
            return origin(url) == self._portal
        except ValueError:
            return False

    def _begins_as_portal(self, url: str) -> bool:
        # A fast path for nearly every href: the authority ends at the first slash (RFC 3986
        # section 3.2), so the same start means the same host.
        return url.startswith(self._portal_start)

    def is_plain(self, url: str) -> bool:
        """Return whether an address of the portal is sent as it is: no preparation changes it."""
        return self._begins_as_portal(url) and _PLAIN.fullmatch(url) is not None

    def takes_key(self, url: str) -> bool:
        """Return whether the key may be sent: to the portal only, by https or over loopback."""
        scheme, host, _ = self._portal
        return self.is_portal(url) and (scheme == "https" or is_loopback(host))

    def is_allowed(self, url: str) -> bool:
        """Return whether ``allowed_hosts`` names the host: without a port, or with this one."""
        parts = urlsplit(url)
        host = parts.hostname or ""
        return host in self._allowed or f"{host}:{origin(url)[2]}" in self._allowed

    def check_href(self, url: str) -> None:
        """Check that an href is on the portal, on an allowed host, or on loopback as the portal is.

        Raises:
            HrefRefusedError: the address is not opened; the hint explains how to allow it.
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
        """Check the target of a redirect: any https host, never from https to plain http.

        Raises:
            HrefRefusedError: the redirect is not followed.
        """
        # The portal may keep its files on any other host, and the key is not sent there.
        self._check_form(target)
        downgrade = (urlsplit(source).scheme, urlsplit(target).scheme) == ("https", "http")
        if downgrade and not is_loopback(urlsplit(source).hostname):
            raise _refused(target, f"{redact(source)} redirects from https to plain http")

    def may_reach(self, host: str, port: int, address: str) -> bool:
        """Return whether a connection to a port of a host may lead to this IP address.

        The portal and the allowed hosts may have any address, any other host only a public one,
        or loopback when the portal itself is on loopback.
        """
        name = host.lower()
        if name in self._may_be_inside or f"{name}:{port}" in self._may_be_inside:
            return True
        # A link-local IPv6 address carries its zone after a percent sign (RFC 4007 section 11).
        ip = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(ip, ipaddress.IPv6Address):
            ip = _embedded(ip) or ip
        # Reserved are ::/8, with the old forms of IPv4 addresses (RFC 4291 section 2.5.5.1), and
        # NAT64 prefixes of one network (RFC 8215); ``is_global`` has them, and groups, as public.
        is_odd = ip.is_reserved or ip.is_multicast or getattr(ip, "is_site_local", False)
        return (ip.is_global and not is_odd) or (ip.is_loopback and self._portal_is_local)

    def _is_trusted(self, url: str) -> bool:
        """Return whether an address outside the portal may be opened as an href."""
        local = self._portal_is_local and is_loopback(urlsplit(url).hostname)
        return local or self.is_allowed(url)

    def _check_form(self, url: str) -> None:
        """Refuse an address with an invalid form, a password, or plain http over a network."""
        try:
            scheme, host, port = origin(url)
        except ValueError as error:
            raise _refused(url, f"this is no web address ({error})") from None
        if scheme not in _PORTS:
            raise _refused(url, f"{scheme or 'a path'} is not opened here, only https is")
        if scheme == "http" and not is_loopback(host):
            raise _refused(url, "plain http is opened on loopback only")
        # RFC 9110 section 4.2.4: a user part in an untrusted address hides the real host.
        if "@" in urlsplit(url).netloc:
            raise _refused(url, "it carries a user name or password")
        self._check_literal(host, port)

    def _check_literal(self, host: str, port: int) -> None:
        """Refuse an IP address inside a private network; a name is checked after the connection.

        All spellings that a resolver, or a proxy, takes for an address are one: ``127.1``,
        ``0x7f000001``, ``2130706433`` (inet_aton(3)), and the names of loopback.
        """
        address = host.partition("%")[0].rstrip(".")
        if is_loopback(address) or address.endswith(".localhost"):  # RFC 6761 section 6.3
            address = LOOPBACK
        with suppress(OSError, ValueError):  # "embedded null character"
            address = socket.inet_ntoa(socket.inet_aton(address))
        with suppress(ValueError):
            if not self.may_reach(host, port, address):
                raise refused_inside(host)


def _embedded(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 host that an IPv6 address leads to; None for any other address."""
    if ip in NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    # ::ffff:10.0.0.1 (RFC 4291 section 2.5.5.2), 2002:a00:1:: (RFC 3056), Teredo (RFC 4380).
    return ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)


def refused_inside(host: str) -> HrefRefusedError:
    """Return the error for a host whose address is not public."""
    hint = f"If you trust it: GEODES_TASKS_ALLOWED_HOSTS={host} (no key is sent there)."
    return HrefRefusedError(host, "the address is inside a private network", hint)


def _refused(url: str, problem: str) -> HrefRefusedError:
    return HrefRefusedError(redact(url), problem)
