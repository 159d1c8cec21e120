"""Nearly all addresses of the portal are sent as they are; requests prepares any other one."""

from __future__ import annotations

import random

import pytest
import requests

from geodes_tasks.settings.config import load
from geodes_tasks.transports.http.addresses import AddressPolicy

PORTAL = "https://geodes-portal.cnes.fr"
HREF = f"{PORTAL}/api/download/URN:FEATURE:DATA:gdh:0f3a:V1/files/0a1b2c"
SEED = 20261129


def test_an_address_of_the_portal_is_plain() -> None:
    """As the catalogue writes it."""
    assert AddressPolicy(load(portal_url=PORTAL)).is_plain(HREF)


@pytest.mark.parametrize(
    "url",
    [
        f"{PORTAL}", f"{PORTAL}/", f"{PORTAL}//a", f"{PORTAL}/a//b", f"{PORTAL}/a/", f"{HREF}?a=1",
        f"{HREF}#a", f"{PORTAL}/a/../b", f"{PORTAL}/./a", f"{PORTAL}/a%2Fb", f"{PORTAL}/a b",
        f"{PORTAL}/\u00fc", f"{PORTAL}/a\n", f"{PORTAL}/a;b", f"{PORTAL}.evil.org/a",
        f"{PORTAL}@evil.org/a", f"{PORTAL}:444/a", f"http{PORTAL[5:]}/a",
        HREF.replace("://", ":\\\\"),
    ],
)  # fmt: skip
def test_what_could_be_read_in_two_ways_is_not(url: str) -> None:
    """Another host, a query, dots, encodings, control characters."""
    assert not AddressPolicy(load(portal_url=PORTAL)).is_plain(url)


@pytest.mark.parametrize(
    "portal", [PORTAL, f"{PORTAL}:8443", f"{PORTAL}/proxy", "http://127.0.0.1"]
)
def test_a_plain_address_is_what_requests_makes_of_it(portal: str) -> None:
    """Whatever stands behind the host: the address and the path of the request are the same."""
    policy, chance = AddressPolicy(load(portal_url=portal)), random.Random(SEED)
    site = "/".join(portal.split("/")[:3])
    plain = 0
    for _ in range(5000):
        path = "".join(chance.choices("aZ09/._~:-%?#@ \\\u00e9", k=chance.randrange(8)))
        url = f"{portal}/{path}"
        if policy.is_plain(url):
            prepared = requests.PreparedRequest()
            prepared.prepare_url(url, None)
            assert (prepared.url, prepared.path_url) == (url, url.removeprefix(site))
            plain += 1

    assert plain > 200
