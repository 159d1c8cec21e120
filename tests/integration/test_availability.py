"""The portal asked what costs nothing: online or on tape, and how much quota is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from geodes_tasks.stac import assets as stac_assets
from geodes_tasks.transports.http.availability import (
    Availability,
    FileAvailability,
    RouteFailedError,
    RouteMissingError,
    product_name,
)
from tests.conftest import KEY
from tests.standin import KiB, Quota
from worker.offline_poller import OfflineRound

if TYPE_CHECKING:
    from geodes_tasks.model.asset import Asset
    from geodes_tasks.settings.config import Config
    from tests.standin import StandIn


def assets_of(standin: StandIn, count: int) -> list[Asset]:
    """Add items, and give their archives."""
    return [stac_assets.assets(standin.add_item(KiB))[0] for _ in range(count)]


@pytest.fixture
def portal(settings: Config) -> Availability:
    """Give whom to ask."""
    return Availability(settings)


def routes(standin: StandIn) -> list[str]:
    """Name the routes that were asked, in order."""
    return [one.route for one in standin.requests]


def test_many_files_in_one_question(standin: StandIn, portal: Availability) -> None:
    """Each file gets its own word; one that the portal does not know gets none."""
    assets = assets_of(standin, 3)
    standin.fault(assets[1].item_id, "offline_410")
    before = portal.bulk(assets)
    stranger = stac_assets.assets(standin.add_item(KiB, href_tail="0" * 32, identifier="STRANGER"))[
        0
    ]

    words = portal.bulk([*assets, stranger])

    assert (
        words[:3]
        == before
        == [
            FileAvailability(online=True),
            FileAvailability(online=False),
            FileAvailability(online=True),
        ]
    )
    assert routes(standin) == ["fastavailability"] * 2
    assert {one.key for one in standin.requests} == {KEY}


def test_one_file_by_its_name(standin: StandIn, portal: Availability) -> None:
    """The name is the file's without its extensions; a copy from tape says when it goes."""
    (asset,) = assets_of(standin, 1)
    standin.fault(asset.item_id, "offline_410", expires=3600)
    standin.bring_online()

    word = portal.one(asset)

    assert word is not None
    assert word.online
    assert word.expires.endswith("Z")


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("S2A_MSIL1C_20250402.zip", "S2A_MSIL1C_20250402"),
        ("LAI_2020.h5.gz", "LAI_2020"),
        ("folder/S2A.SAFE.zip", "S2A"),
        ("V4-0.C_V1.1", "V4-0.C_V1.1"),
        (".zip", ".zip"),
    ],
)
def test_names_of_products(title: str, name: str) -> None:
    """Only known extensions are cut off: names have dots of their own."""
    assert product_name(title) == name


def test_quota_left(standin: StandIn, portal: Availability) -> None:
    """The number is told; no quota at all is none; a portal that does not tell says so."""
    standin.quota = Quota(7)
    seven = portal.quota_left()
    standin.quota = None
    none = portal.quota_left()
    standin.settings.quota_status = 404

    with pytest.raises(RouteMissingError, match="404"):
        portal.quota_left()
    assert (seven, none) == (7, None)
    assert standin.downloads() == []


@pytest.mark.parametrize("how", ["401", "403", "login", "loop"])
def test_a_refused_key_says_nothing_of_files(standin: StandIn, settings: Config, how: str) -> None:
    """It is for a download to find out; the key is in no message."""
    (asset,) = assets_of(standin, 1)
    standin.set_key("another")
    standin.settings.change(bad_key=how)

    with pytest.raises(RouteMissingError) as caught:
        Availability(settings).one(asset)

    assert KEY not in str(caught.value)


@pytest.mark.parametrize("how", ["401", "403", "login", "loop"])
def test_whether_the_portal_accepts_the_key(
    standin: StandIn, settings: Config, portal: Availability, how: str
) -> None:
    """A good key is accepted, each form of a refusal is one, and no file is asked for."""
    name = settings.key_name()
    good = portal.accepts(name)
    standin.set_key("another")
    standin.settings.change(bad_key=how)

    assert (good, portal.accepts(name)) == (True, False)
    assert standin.downloads() == []


def test_a_portal_that_does_not_say_whether_it_accepts_the_key(
    standin: StandIn, settings: Config, portal: Availability
) -> None:
    """Another key by now, no such route, one that fails, a portal that is away: not known."""
    name = settings.key_name()
    away = Availability(settings.replace(portal_url="http://127.0.0.1:1"))
    seen = [portal.accepts("the key in GEODES_API_KEY, ending in ...0000"), away.accepts(name)]
    for status in (404, 503):
        standin.settings.quota_status = status
        seen.append(portal.accepts(name))

    assert seen == [None] * 4


def test_a_portal_that_fails_is_told_from_one_without_the_route(
    standin: StandIn, settings: Config, portal: Availability
) -> None:
    """503 passes, and so does a portal that is not there."""
    (asset,) = assets_of(standin, 1)
    standin.settings.change(bulk_status=503)
    away = Availability(settings.replace(portal_url="http://127.0.0.1:1"))

    with pytest.raises(RouteFailedError, match="503"):
        portal.bulk([asset])
    with pytest.raises(RouteFailedError, match="connection failed"):
        away.bulk([asset])


# --- a round of questions ------------------------------------------------------------------------


def test_fewer_in_a_question_where_the_portal_takes_fewer(
    standin: StandIn, portal: Availability
) -> None:
    """400 to twenty: ten are asked for, then five."""
    assets = {one.item_id: one for one in assets_of(standin, 20)}
    standin.settings.availability_cap = 6

    answer = OfflineRound(portal, is_patient=True).poll(assets)

    assert sorted(answer.online) == sorted(assets)
    assert len(routes(standin)) == 7


def test_what_the_answer_leaves_out_is_asked_for_by_name(
    standin: StandIn, portal: Availability
) -> None:
    """Without the route for many, each file is asked for alone, none by its own GET."""
    assets = {one.item_id: one for one in assets_of(standin, 3)}
    standin.fault(next(iter(assets)), "offline_410")
    standin.settings.bulk_status = 404

    answer = OfflineRound(portal, is_patient=True).poll(assets)

    assert (len(answer.online), len(answer.offline), answer.unknown) == (2, 1, [])
    assert routes(standin) == ["fastavailability", *["availability"] * 3]


def test_without_both_routes_files_are_unknown(standin: StandIn, portal: Availability) -> None:
    """After three that are not known nothing more is asked, and files ask for themselves."""
    assets = {one.item_id: one for one in assets_of(standin, 8)}
    standin.settings.change(bulk_status=404, availability_status=404)

    answer = OfflineRound(portal, is_patient=True).poll(assets)

    assert sorted(answer.unknown) == sorted(assets)
    assert routes(standin) == ["fastavailability", *["availability"] * 3]


@pytest.mark.parametrize(("patient", "unknown"), [(True, 0), (False, 4)])
def test_a_portal_that_fails_is_waited_for(
    standin: StandIn, portal: Availability, patient: bool, unknown: int
) -> None:
    """A round without an answer changes nothing; after several, files ask for themselves."""
    assets = {one.item_id: one for one in assets_of(standin, 4)}
    standin.settings.change(bulk_status=500)

    round_ = OfflineRound(portal, is_patient=patient)
    answer = round_.poll(assets)

    assert round_.has_failed
    assert (answer.online, answer.offline, len(answer.unknown)) == ([], [], unknown)
    assert routes(standin) == ["fastavailability"]
