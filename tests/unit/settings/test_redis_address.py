"""Addresses of Redis: which forms are taken, and what is said of the others."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from geodes_tasks.errors import ConfigError
from geodes_tasks.settings import config
from geodes_tasks.settings.redis_address import checked, sentinel_address

SENTINELS = "sentinel://worker:p%40ss@h1:26380;h2;[::1]:26382/3?master_name=geodes"


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/0",
        "redis://h",
        "redis://user:secret@h:6380",
        "redis://[::1]:6379/1",
        "rediss://user@h:6380/0?ssl_ca_certs=/ca.pem",
        "rediss://h/0?ssl_cert_reqs=required&ssl_certfile=/c.pem&ssl_keyfile=/k.pem",
        "redis+socket:///run/redis.sock",
        SENTINELS,
        f"{SENTINELS}&ssl=true&ssl_ca_certs=/ca.pem&sentinel_username=u&sentinel_password=p",
    ],
)
def test_right_addresses_are_taken_as_they_are(url: str) -> None:
    """Each form that redis-py and the broker understand."""
    assert checked(url) == url


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("localhost:6379", "does not begin with"),
        ("127.0.0.1", "does not begin with"),
        ("http://h/0", "does not begin with"),
        ("redis:///0", "names no host"),
        ("redis://h:abc/0", "'abc'"),
        ("redis://h:99999/0", "range"),
        ("redis://h:/0", "lacks its port"),
        ("redis://h/x", "'x' is no number"),
        ("redis+socket://", "names no socket"),
        ("sentinel://h:26379/0", "name of the primary"),
        ("sentinel://h:x/0?master_name=g", "'x'"),
        ("sentinel:///0?master_name=g", "names no host"),
        ("sentinel://;/0?master_name=g", "names no host"),
        ("", "does not begin with"),
        ("redis:h:6379", "`//` is missing"),
        ("sentinel:h:26379", "`//` is missing"),
        ("sentinel://h/x?master_name=g", "'x' is no number"),
        ("redis://h/0?db=3", "db is no option of redis://"),
        ("redis://h/0?ssl_cert_reqs=required", "ssl_cert_reqs is no option of redis://"),
        ("redis://h/0?bogus=", "bogus is no option"),
        ("redis+socket:///run/r.sock?virtual_host=3", "virtual_host is no option"),
        ("rediss://h/0?socket_timeout=5", "no option of rediss://.*write rediss://HOST"),
        ("rediss://h/0?ssl_check_hostname=false", "ssl_check_hostname is no option"),
        ("rediss://h/0?ssl_cert_reqs=none", "TLS is always verified"),
        ("rediss://h/0?ssl_cert_reqs=CERT_NONE", "TLS is always verified"),
        ("sentinel://h/0?master_name=g&ssl_cert_reqs=optional", "TLS is always verified"),
        ("sentinel://h/0?master_name=g&ssl=on", "ssl is true or false"),
        ("sentinel://h/0?master_name=g&client_name=x", "client_name is no option"),
    ],
)
def test_wrong_addresses_are_one_line(url: str, problem: str) -> None:
    """A wrong form ends in a sentence with the right form, never in a traceback of a library."""
    with pytest.raises(ConfigError, match=problem) as caught:
        config.load(redis_url=url)

    text = str(caught.value)
    assert "\n" not in text
    assert "GEODES_TASKS_REDIS_URL" in text
    assert re.search("write (rediss?|sentinel)://HOST", text)


@pytest.mark.parametrize(
    "url",
    [
        "redis://u:hush@h:x/0",
        "sentinel://u:hush@h/0?sentinel_password=hush",
        "redis://h/0?password=hush",
        "redis://u:12?hush@h/0",
        "redis://u:12?hush=1@h/0",
    ],
)
def test_a_password_in_a_wrong_address_is_not_shown(url: str) -> None:
    """No password of Redis or of the Sentinels is in the message, wherever it stands."""
    with pytest.raises(ConfigError, match="no address of Redis") as caught:
        config.load(redis_url=url)

    assert "hush" not in f"{caught.value}{caught.value.hint}"


def test_an_address_of_sentinels_is_taken_apart() -> None:
    """Hosts with and without a port, the login of Redis, the name of the primary."""
    login = "sentinel_username=watch%20er&sentinel_password=s"
    address = sentinel_address(f"{SENTINELS}&{login}&ssl=true&ssl_ca_certs=/ca.pem")

    assert address is not None
    assert address.hosts == (("h1", 26380), ("h2", 26379), ("::1", 26382))
    assert (address.username, address.password) == ("worker", "p@ss")
    assert (address.master_name, address.database) == ("geodes", 3)
    assert address.tls_options == {"ssl_cert_reqs": "required", "ssl_ca_certs": "/ca.pem"}
    assert address.sentinel_options["username"] == "watch er"
    assert address.sentinel_options["password"] == "s"
    assert address.sentinel_options["ssl_ca_certs"] == "/ca.pem"


def test_each_sentinel_is_a_whole_address_for_the_broker() -> None:
    """Kombu tries them one after the other, each with the login."""
    address = sentinel_address("sentinel://worker:p%40ss@h1:26379;h2:26379/0?master_name=g")

    assert address is not None
    assert address.broker_url == (
        "sentinel://worker:p%40ss@h1:26379/0;sentinel://worker:p%40ss@h2:26379/0"
    )
    assert address.tls_options == {}


def test_the_password_file_is_of_redis(tmp_path: Path) -> None:
    """GEODES_TASKS_REDIS_PASSWORD_FILE completes an address of Sentinels too."""
    file = tmp_path / "password"
    file.write_text("pa/ss")
    settings = config.load(
        redis_url="sentinel://worker@h1;h2/0?master_name=g", redis_password_file=file
    )

    address = sentinel_address(str(settings.redis_url))
    assert address is not None
    assert address.password == "pa/ss"
    assert len(address.hosts) == 2
