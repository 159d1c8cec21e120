"""Addresses of Redis: checked when the settings are read, and those of Sentinels taken apart.

``sentinel://user:password@h1:26379;h2:26379/0?master_name=geodes&sentinel_password=...&ssl=true``
names Sentinels, which know where the primary is; user and password are those of Redis.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qs, parse_qsl, quote, unquote, urlsplit

from geodes_tasks.settings.urls import masked

SENTINEL_PORT = 26379
"""Port of a Sentinel whose address names none."""
_SCHEMES = ("redis", "rediss", "redis+socket", "sentinel")
REDIS_FORM = "redis://HOST:6379/0"
_TRUE = {"true", "yes", "1"}
_FALSE = {"false", "no", "0"}
_OPTIONS = {
    "rediss": ("ssl_ca_certs", "ssl_cert_reqs", "ssl_certfile", "ssl_keyfile"),
    "sentinel": (
        "master_name", "sentinel_password", "sentinel_username", "ssl", "ssl_ca_certs",
        "ssl_cert_reqs",
    ),
}  # fmt: skip
"""Options behind `?` by scheme: redis-py and kombu raise TypeError for one that they do not know,
and each knows some that the other does not."""


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """The Sentinels of a Redis, and how to log in to both."""

    hosts: tuple[tuple[str, int], ...]
    """Name and port of each Sentinel."""
    master_name: str
    """Name of the primary in the Sentinels' settings (`sentinel monitor NAME ...`)."""
    database: int
    username: str | None
    password: str | None
    """Of Redis; None where it needs none."""
    sentinel_username: str | None
    """Of the Sentinels, where they have users (ACL); None for a password alone."""
    sentinel_password: str | None
    """Of the Sentinels; None where they need none."""
    is_tls: bool
    """Whether Redis and Sentinels are reached by TLS."""
    ca_certs: str | None
    """File with the certificates to trust; None for those of the system."""

    @property
    def tls_options(self) -> dict[str, str]:
        """Return redis-py's options of TLS; empty without TLS."""
        if not self.is_tls:
            return {}
        return {"ssl_cert_reqs": "required"} | (
            {"ssl_ca_certs": self.ca_certs} if self.ca_certs else {}
        )

    @property
    def sentinel_options(self) -> dict[str, object]:
        """Return redis-py's options of a connection to a Sentinel."""
        tls = {"ssl": True, **self.tls_options} if self.is_tls else {}
        login = {"username": self.sentinel_username, "password": self.sentinel_password}
        return {**login, "socket_timeout": 5.0, **tls}

    @property
    def broker_url(self) -> str:
        """Return the address as kombu reads it: one whole address for each Sentinel."""
        # kombu parses each part by itself when it goes to the next Sentinel (Connection.switch): a
        # login in the first part alone would be lost there.
        secret = ":".join(quote(part or "", safe="") for part in (self.username, self.password))
        login = f"{secret}@" if self.username or self.password else ""
        return ";".join(
            f"sentinel://{login}{host}:{port}/{self.database}" for host, port in self.hosts
        )


def checked(url: str) -> str:
    """Return an address of Redis as it is.

    Raises:
        ValueError: no client can connect to it; the text shows the form that is expected.
    """
    try:
        problem = _problem_of(url)
    except ValueError as error:
        problem = str(error)
    if problem:
        form = "sentinel://HOST:26379/0?master_name=NAME" if "sentinel:" in url else REDIS_FORM
        if url.startswith("rediss:"):
            form = form.replace("redis:", "rediss:")
        raise ValueError(f"{masked(url)!r} is no address of Redis: {problem}; write {form}")
    return url


def _problem_of(url: str) -> str:
    """Return what is wrong with an address, empty if nothing is.

    Raises:
        ValueError: a port is no number, or a Sentinel has no name of the primary.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        return "it does not begin with redis://, rediss:// or sentinel://"
    if problem := _option_problem(parts.scheme, parts.query):
        return problem
    if parts.scheme == "redis+socket":
        return "" if parts.path.strip("/") else "it names no socket"
    if not url[len(parts.scheme) :].startswith("://"):
        return f"`//` is missing behind {parts.scheme}:"
    database = parts.path.removeprefix("/")
    if database and not database.isdecimal():
        return f"{database!r} is no number"
    sentinel = sentinel_address(url)
    if not (sentinel.hosts if sentinel else parts.hostname and parts.port != 0):
        return "it names no host"
    return "it lacks its port" if parts.netloc.endswith(":") else ""


def _option_problem(scheme: str, query: str) -> str:
    """Return what is wrong with the options of an address, empty if nothing is."""
    known = _OPTIONS.get(scheme, ())
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in {"username", "password"}:
            return f"{name} is no option: a login is USER:PASSWORD@ before the host"
        if name not in known:
            # A password with a `?` in it ends up here: only what can be a name is quoted.
            shown = name if name.isidentifier() and "@" not in query else "the text behind `?`"
            return f"{shown} is no option of {scheme}:// (it has {', '.join(known) or 'none'})"
        if name == "ssl_cert_reqs" and value not in {"", "required"}:
            return "TLS is always verified: leave ssl_cert_reqs out"
        if name == "ssl" and value.lower() not in _TRUE | _FALSE:
            return "ssl is true or false"
    return ""


def sentinel_address(url: str) -> SentinelAddress | None:
    """Parse an address of Sentinels; None for any other address.

    Raises:
        ValueError: it names no primary, or a port is no number.
    """
    parts = urlsplit(url)
    if parts.scheme != "sentinel":
        return None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    if not (master_name := query.get("master_name", "")):
        raise ValueError("a Sentinel needs the name of the primary: ?master_name=NAME")
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    return SentinelAddress(
        hosts=tuple(_host_of(text) for text in hosts.split(";") if text),
        master_name=master_name,
        database=int(parts.path.strip("/") or 0),
        username=unquote(username) or None,
        password=unquote(password) or None,
        sentinel_username=query.get("sentinel_username"),
        sentinel_password=query.get("sentinel_password"),
        is_tls=query.get("ssl", "").lower() in _TRUE,
        ca_certs=query.get("ssl_ca_certs"),
    )


def _host_of(text: str) -> tuple[str, int]:
    """Return host and port; an IPv6 address is in brackets."""
    one = SplitResult("", text, "", "", "")
    if not one.hostname:
        raise ValueError(f"{text!r} names no host")
    return one.hostname, one.port or SENTINEL_PORT
