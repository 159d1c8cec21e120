"""The stand-in for GEODES proves itself: each route and fault as a plain client sees it."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
import requests
import urllib3

from geodes_tasks.utils.query import get_requestable_args
from tests.standin import (
    RETRY_AFTER_FORMS,
    FileBody,
    GeneratedBody,
    GiB,
    Item,
    KiB,
    MiB,
    Quota,
    StandIn,
    digest,
    read,
    variants,
)
from tests.standin.bodies import KNOWN_MD5

KEY = "a-good-key"
AUTH = {"X-API-Key": KEY}
SIZE = 300 * KiB


@pytest.fixture
def standin() -> Iterator[StandIn]:
    """A stand-in that knows one key."""
    with StandIn(KEY) as running:
        yield running


@pytest.fixture
def item(standin: StandIn) -> Item:
    """An item of 300 KiB."""
    return standin.add_item(size=SIZE)


def get(standin: StandIn, item: Item, **headers: str) -> requests.Response:
    """Return one GET on an item's archive, redirects not followed."""
    url = standin.url + standin.path_of(item)
    return requests.get(url, headers=AUTH | headers, allow_redirects=False, timeout=10)


def raw(standin: StandIn, item: Item, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
    """Return an answer and every byte of its body that came, whatever its headers promise."""
    address = urlsplit(standin.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        lines = [f"GET {standin.path_of(item)} HTTP/1.1", f"Host: {address.netloc}"]
        lines += [f"{name}: {value}" for name, value in (AUTH | headers).items()]
        connection.sendall(("\r\n".join([*lines, "Connection: close"]) + "\r\n\r\n").encode())
        received = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    return _parsed(head), body


def _parsed(head: bytes) -> http.client.HTTPResponse:
    """Return a head of an answer as the standard library reads it."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(head + b"\r\n\r\n")
        answer = http.client.HTTPResponse(ours)
        answer.begin()
    return answer


def md5(content: bytes) -> str:
    """Return the MD5 of bytes."""
    return hashlib.md5(content).hexdigest()


def archive(item: Item) -> dict[str, Any]:
    """Return the asset of an item's archive."""
    return dict(next(a for a in item["assets"].values() if a["href"].count("/api/download/")))


# Bodies


def test_generated_body_is_the_same_from_any_offset() -> None:
    """Any stretch of a generated body equals the same stretch of the whole."""
    body = GeneratedBody("seed", 3 * MiB + 5)
    whole = read(body)

    assert len(whole) == body.size
    assert md5(whole) == body.md5
    for start, stop in [(0, 1), (7, 40), (MiB - 3, MiB + 20), (2 * MiB, body.size)]:
        assert read(body, start, stop) == whole[start:stop]


def test_bodies_of_two_seeds_differ_everywhere() -> None:
    """A splice of two bodies never equals either."""
    one, other = read(GeneratedBody("a", 2 * MiB)), read(GeneratedBody("b", 2 * MiB))

    assert all(one[at : at + 64] != other[at : at + 64] for at in range(0, 2 * MiB, 4096))


def test_big_body_streams_with_flat_memory(standin: StandIn) -> None:
    """Half a GiB passes through and the process does not grow by more than a few MiB."""
    item = standin.add_item(size=512 * MiB, catalogue_md5="0" * 32)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    connection = http.client.HTTPConnection(urlsplit(standin.url).netloc)
    connection.request("GET", standin.path_of(item), headers=AUTH)
    answer, buffer, received = connection.getresponse(), bytearray(MiB), 0
    while count := answer.readinto(buffer):
        received += count
    connection.close()

    assert received == 512 * MiB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * KiB


@pytest.mark.bench
def test_known_digests_are_true() -> None:
    """The digests of the big products that are written down are those of their bytes."""
    for (seed, size), known in KNOWN_MD5.items():
        assert digest(GeneratedBody(seed, size)) == known


def test_big_products_announce_true_sizes_and_any_offset(standin: StandIn) -> None:
    """A product above 4 GiB needs no reading through to be announced or entered at its end."""
    standin.settings.change(range="good")
    item = variants(standin)["over_4_gib"]
    size = standin.body(item).size
    answer = get(standin, item, Range=f"bytes={size - 100}-")

    assert size > 4 * GiB
    assert f"File size: {size} bytes" in archive(item)["description"]
    assert answer.headers["Content-Range"] == f"bytes {size - 100}-{size - 1}/{size}"
    assert answer.content == read(standin.body(item), size - 100, size)


# Downloads without faults


def test_download_answers_as_the_portal_does(standin: StandIn, item: Item) -> None:
    """Right bytes, right length, a file name, no validator and no invitation to resume."""
    answer = get(standin, item)

    assert answer.status_code == 200
    assert md5(answer.content) == archive(item)["href"].rsplit("/", 1)[1]
    assert answer.headers["Content-Type"] == "application/zip"
    assert answer.headers["Content-Length"] == str(SIZE)
    assert archive(item)["title"] in answer.headers["Content-Disposition"]
    assert "ETag" not in answer.headers
    assert "Accept-Ranges" not in answer.headers


def test_percent_encoded_colons_lead_to_the_same_file(standin: StandIn, item: Item) -> None:
    """An id with %3A in place of its colons is the same id."""
    url = standin.url + quote(standin.path_of(item))

    assert "%3A" in url
    assert requests.get(url, headers=AUTH, timeout=10).status_code == 200


def test_file_on_disk_is_served(standin: StandIn, tmp_path: Path) -> None:
    """``add_file`` serves a real file's bytes and announces its digest."""
    path = tmp_path / "real.zip"
    path.write_bytes(os.urandom(2 * MiB))
    item = standin.add_file(path)
    answer = get(standin, item)

    assert isinstance(standin.body(item), FileBody)
    assert answer.content == path.read_bytes()
    assert archive(item)["href"].endswith(md5(answer.content))


def test_log_tells_what_happened(standin: StandIn, item: Item) -> None:
    """A request's line has its route, key, status, bytes and times."""
    get(standin, item)
    standin.wait_idle()
    [line] = standin.downloads(item)

    assert (line.method, line.route, line.key, line.status) == ("GET", "download", KEY, 200)
    assert line.bytes_sent == SIZE
    assert line.finished_at is not None
    assert line.finished_at >= line.started_at
    assert standin.downloads(standin.add_item(size=1)) == []
    standin.reset_log()
    assert standin.requests == []


def test_many_clients_at_once(standin: StandIn) -> None:
    """Sixteen clients get thousands of small files over kept-alive connections, in seconds."""
    items = [standin.add_item(size=KiB) for _ in range(16)]
    failed: list[Item] = []

    def fetch(item: Item) -> None:
        connection = http.client.HTTPConnection(urlsplit(standin.url).netloc)
        for _ in range(50):
            connection.request("GET", standin.path_of(item), headers=AUTH)
            if md5(connection.getresponse().read()) != standin.body(item).md5:
                failed.append(item)
        connection.close()

    threads = [threading.Thread(target=fetch, args=(item,)) for item in items]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failed
    assert len(standin.downloads()) == 800
    assert time.monotonic() - began < 30


def test_stop_is_quick_with_open_connections() -> None:
    """A client in the middle of a stalled body does not hold up the end."""
    standin = StandIn(KEY).start()
    item = standin.add_item(size=SIZE)
    standin.fault(item, "stall", after=1000)
    url = standin.url + standin.path_of(item)
    answer = requests.get(url, headers=AUTH, stream=True, timeout=10)
    began = time.monotonic()
    standin.stop()

    assert time.monotonic() - began < 5  # without the end, ten
    answer.close()


def test_rate_limits_each_download(standin: StandIn, item: Item) -> None:
    """300 KiB at 1 MiB a second take about 0.3 s, and arrive whole."""
    standin.settings.rate = float(MiB)
    began = time.monotonic()
    content = get(standin, item).content
    taken = time.monotonic() - began

    assert md5(content) == standin.body(item).md5
    assert 0.2 < taken < 8


def test_tls_with_its_own_authority() -> None:
    """Over https, a client that trusts ``ca_file`` gets the bytes, and others are turned away."""
    with StandIn(KEY, tls=True) as standin:
        url = standin.url + standin.path_of(standin.add_item(size=SIZE))
        trusted = requests.get(url, headers=AUTH, verify=str(standin.ca_file), timeout=10)

        assert url.startswith("https://")
        assert len(trusted.content) == SIZE
        with pytest.raises(requests.exceptions.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            requests.get(url, headers=AUTH, timeout=10)


# Keys, quota, concurrency


@pytest.mark.parametrize(
    ("how", "status", "location"),
    [
        ("401", 401, None),
        ("403", 403, None),
        ("login", 302, "/login?next=/api/download/"),
        ("loop", 302, "/login/loop"),
    ],
)
def test_bad_key(standin: StandIn, item: Item, how: str, status: int, location: str | None) -> None:
    """A wrong key is refused in the way that is set, and never with words of quota."""
    standin.settings.change(bad_key=how)
    answer = get(standin, item, **{"X-API-Key": "wrong"})

    assert answer.status_code == status
    assert "quota" not in answer.text.lower()
    assert (location or "") in answer.headers.get("Location", "")


def test_bad_key_loop_never_ends(standin: StandIn, item: Item) -> None:
    """A client that follows gives up after its thirty redirects."""
    url = standin.url + standin.path_of(item)

    with pytest.raises(requests.TooManyRedirects, match="30"):
        requests.get(url, headers={"X-API-Key": "wrong"}, timeout=10)


def test_login_redirect_ends_in_a_page(standin: StandIn, item: Item) -> None:
    """A client that follows the login redirect gets a page with status 200."""
    standin.fault(item, "bad_key", answer="login")
    answer = requests.get(standin.url + standin.path_of(item), headers=AUTH, timeout=10)

    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")


def test_key_can_be_replaced(standin: StandIn, item: Item) -> None:
    """``set_key`` turns the old key away and lets the new one in."""
    standin.set_key("new")

    assert get(standin, item).status_code == 302
    assert get(standin, item, **{"X-API-Key": "new"}).status_code == 200


def test_key_revoked_midway(standin: StandIn, item: Item) -> None:
    """Two downloads pass, then the key is refused until another is used."""
    standin.set_key(KEY, "new")
    standin.fault(None, "key_revoked_midway", downloads=2)

    assert [get(standin, item).status_code for _ in range(4)] == [200, 200, 401, 401]
    assert get(standin, item, **{"X-API-Key": "new"}).status_code == 200


def test_quota_is_counted_for_each_key_and_reopens(standin: StandIn, item: Item) -> None:
    """Over quota comes the 403 of the portal's own words; the status route costs nothing."""
    standin.set_key(KEY, "other")
    standin.quota = 2
    status = standin.url + "/processing/download/get"

    assert [get(standin, item).status_code for _ in range(2)] == [200, 200]
    assert "exceeds quota limit" in get(standin, item).json()["message"]
    assert requests.get(status, headers=AUTH, timeout=10).json()["remainingQuota"] == 0
    assert get(standin, item, **{"X-API-Key": "other"}).status_code == 200
    standin.advance(3601)
    assert requests.get(status, headers=AUTH, timeout=10).json()["remainingQuota"] == 2
    assert get(standin, item).status_code == 200


def test_sliding_quota_and_completed_only(standin: StandIn, item: Item) -> None:
    """A sliding window gives places back one by one; broken downloads may count for nothing."""
    standin.quota = Quota(limit=2, window_s=100, sliding=True, completed_only=True)
    standin.fault(item, "truncate", times=1)
    raw(standin, item)
    for _ in range(2):
        assert get(standin, item).status_code == 200
        standin.wait_idle()
        standin.advance(60)

    assert get(standin, item).status_code == 200
    standin.wait_idle()
    assert get(standin, item).status_code == 403


def test_concurrency_cap(standin: StandIn, item: Item) -> None:
    """With one download open, a second one of the same key gets 429."""
    standin.fault(None, "concurrency", limit=1, retry_after="seconds")
    standin.fault(item, "stall", after=1000, times=1)
    url = standin.url + standin.path_of(item)
    first = requests.get(url, headers=AUTH, stream=True, timeout=10)
    second = get(standin, item)
    first.close()

    assert second.status_code == 429
    assert second.headers["Retry-After"] == "2"
    assert standin.wait_idle()
    assert get(standin, item).status_code == 200


def test_concurrency_cap_lets_turns_pass(standin: StandIn, item: Item) -> None:
    """Downloads one after another over fresh connections are never taken for two at a time."""
    standin.settings.max_open = 1

    assert {get(standin, item).status_code for _ in range(100)} == {200}


# Answers in place of the file


@pytest.mark.parametrize(
    ("mode", "options", "status", "words"),
    [
        ("quota403", {}, 403, "DownloadQuotaPlugin"),
        ("quota403", {"status": 200}, 200, "exceeds quota limit"),
        ("429", {}, 429, "exceeded"),
        ("status_n_times", {"status": 500}, 500, "correlationId"),
        ("status_n_times", {"status": 503, "html": True}, 503, "<html>"),
        ("html_200", {}, 200, "Sign in"),
        ("json_200", {"body": "hello"}, 200, '{"message":"hello"}'),
        ("empty_200", {}, 200, ""),
        ("204", {}, 204, ""),
        ("offline_410", {}, 410, "nearline"),
        ("offline_202", {}, 202, ""),
        ("gone_404", {}, 404, "Unknown file"),
        ("licence_423", {}, 423, "links"),
    ],
)
def test_answer_in_place_of_the_file(
    standin: StandIn, item: Item, mode: str, options: dict[str, Any], status: int, words: str
) -> None:
    """Once, the answer of the mode comes; the next time, the file."""
    standin.fault(item, mode, times=1, **options)
    answer = get(standin, item)

    assert answer.status_code == status
    assert words in answer.text
    assert len(answer.content) < 1000
    assert get(standin, item).content == read(standin.body(item))


@pytest.mark.parametrize("form", RETRY_AFTER_FORMS)
def test_retry_after_forms(standin: StandIn, item: Item, form: str) -> None:
    """Every form of Retry-After goes out as it is called."""
    standin.fault(item, "429", retry_after=form, seconds=7)
    value = get(standin, item).headers.get("Retry-After")
    fixed = {"none": None, "seconds": "7", "zero": "0", "milliseconds": "7000"}

    if form in fixed:
        assert value == fixed[form]
    elif form.endswith("date"):
        ahead = parsedate_to_datetime(str(value)).timestamp() - time.time()
        assert (ahead > 0) == (form == "date")
    else:
        assert not str(value).isdigit() or int(str(value)) > 10**9


def test_faults_come_in_the_order_they_were_set(standin: StandIn, item: Item) -> None:
    """Skipped, counted and chained faults make a script; others are not touched."""
    standin.fault(item, "status_n_times", status=500, skip=1, times=2)
    standin.fault(item, "gone_404", skip=2, times=1)
    other = standin.add_item(size=10)

    assert [get(standin, item).status_code for _ in range(5)] == [200, 500, 500, 200, 404]
    assert get(standin, other).status_code == 200
    standin.fault(other, "gone_404")
    standin.clear_faults(other)
    assert get(standin, other).status_code == 200


def test_unknown_mode_is_refused(standin: StandIn) -> None:
    """A misspelt mode is an error, not a fault that never strikes."""
    with pytest.raises(ValueError, match="trunkate"):
        standin.fault(None, "trunkate")


@pytest.mark.parametrize("status", [302, 307])
def test_redirect_to_another_host_logs_what_arrives(
    standin: StandIn, item: Item, status: int
) -> None:
    """The other host serves the file and tells whether the key came along."""
    standin.fault(item, "redirect_other_host", status=status)
    location = get(standin, item).headers["Location"]
    answer = requests.get(standin.url + standin.path_of(item), headers=AUTH, timeout=10)

    assert location.startswith(standin.other_host.url)
    assert md5(answer.content) == standin.body(item).md5
    assert [line.key for line in standin.other_host.requests] == [KEY]  # requests leaks it


# Tape


def availability(standin: StandIn, item: Item) -> bool:
    """Return whether an item's archive is online, by the route for one product."""
    url = f"{standin.url}/availability/{item['properties']['identifier']}"
    files = requests.get(url, headers=AUTH, timeout=10).json()["files"]
    tail = archive(item)["href"].rsplit("/", 1)[1]
    return bool(next(file["available"] for file in files if file["checksum"] == tail))


def test_tape_comes_online_after_polls_and_expires(standin: StandIn, item: Item) -> None:
    """Two polls say no, then the file is there, until its time is over."""
    md5_only = archive(item)["href"].rsplit("/", 1)[1]
    standin.fault(md5_only, "offline_410", polls=2, expires=50)

    assert get(standin, item).status_code == 410
    assert [availability(standin, item) for _ in range(3)] == [False, False, True]
    assert get(standin, item).status_code == 200
    standin.advance(51)
    assert get(standin, item).status_code == 410


def push_clock(standin: StandIn, item: Item) -> None:
    """Let the time on tape pass."""
    standin.advance(61)


def ask_restoration(standin: StandIn, item: Item) -> None:
    """Ask for a product's restoration as the portal's page on processing says."""
    inputs = {"product-title": item["properties"]["identifier"], "restoration": True}
    url = f"{standin.url}/api/processing/processes/restoration/execution"
    answer = requests.post(url, json={"inputs": inputs}, headers=AUTH, timeout=10)

    assert answer.status_code == 201
    assert answer.json()["status"] == "accepted"


@pytest.mark.parametrize(
    ("options", "restore"),
    [
        ({"gets": 1}, get),
        ({"seconds": 60}, push_clock),
        ({}, StandIn.bring_online),
        ({}, ask_restoration),
    ],
)
@pytest.mark.parametrize("by_name", [True, False])
def test_tape_comes_online(
    standin: StandIn,
    item: Item,
    options: dict[str, Any],
    restore: Callable[..., object],
    by_name: bool,
) -> None:
    """GETs, time, an order of the test or a restoration bring a file back, and nothing else."""
    name = item["properties"]["identifier"]
    standin.fault(name if by_name else item, "offline_202", **options)
    before = availability(standin, item)
    restore(standin, item)

    assert before is False
    assert get(standin, item).status_code == 200
    assert availability(standin, item) is True


def test_fast_availability(standin: StandIn, item: Item) -> None:
    """Known products are listed, unknown ones left out, and too many refused."""
    url = f"{standin.url}/fastavailability"
    standin.fault(item, "offline_410")
    href = archive(item)["href"]
    asked = [{"href": href, "endpointURL": item["properties"]["endpoint_url"]}]
    asked.append({"href": f"{standin.url}/api/download/URN:x/files/{'0' * 32}", "endpointURL": ""})
    products = requests.post(url, json={"availability": asked}, timeout=10).json()["products"]
    many = requests.post(url, json={"availability": asked * 51}, timeout=10)

    status = {"checksum": href.rsplit("/", 1)[1], "available": False}
    assert products == [{"id": item["id"], "files": [status]}]
    assert many.status_code == 400


# Broken bodies


@pytest.mark.parametrize("after", [0, 1, 100_000])
def test_truncate(standin: StandIn, item: Item, after: int) -> None:
    """The length promises all of it, and a clean close comes after so many bytes."""
    standin.fault(item, "truncate", after=after, times=1)
    answer, body = raw(standin, item)

    assert answer.headers["Content-Length"] == str(SIZE)
    assert body == read(standin.body(item), 0, after)
    assert get(standin, item).content == read(standin.body(item))


def test_reset(standin: StandIn, item: Item) -> None:
    """The connection is torn down in the middle, and what was sent is in the log."""
    standin.fault(item, "reset", after=100_000)

    with pytest.raises(ConnectionResetError, match="reset"):
        raw(standin, item)
    standin.wait_idle()
    assert standin.downloads(item)[0].bytes_sent == 100_000


def test_chunked_cut(standin: StandIn, item: Item) -> None:
    """No length and no last chunk: the client can tell that the end is missing."""
    standin.fault(item, "chunked_cut", after=100_000)

    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="ended prematurely"):
        get(standin, item)


@pytest.mark.parametrize(("mode", "count"), [("chunked", SIZE), ("chunked_clean_short", 1000)])
def test_chunked_in_good_order(standin: StandIn, item: Item, mode: str, count: int) -> None:
    """Properly ended chunks: only the size tells that a short body is short."""
    standin.fault(item, mode, after=1000)
    answer = get(standin, item)

    assert "Content-Length" not in answer.headers
    assert answer.content == read(standin.body(item), 0, count)


def test_corrupt_differs_each_time(standin: StandIn, item: Item) -> None:
    """Twice one byte is wrong, each time another; the third copy is good."""
    standin.fault(item, "corrupt", times=2)
    truth = read(standin.body(item))
    copies = [get(standin, item).content for _ in range(3)]
    wrong = [[a for a in range(SIZE) if copy[a] != truth[a]] for copy in copies]

    assert [len(places) for places in wrong] == [1, 1, 0]
    assert wrong[0] != wrong[1]


def test_corrupt_at_a_place(standin: StandIn, item: Item) -> None:
    """The byte turned over is the one asked for."""
    standin.fault(item, "corrupt", at=5)
    truth = read(standin.body(item), 0, 6)

    assert get(standin, item).content[:6] == truth[:5] + bytes([truth[5] ^ 0xFF])


def test_catalogue_mismatch_agrees_with_itself(standin: StandIn, item: Item) -> None:
    """Two copies are alike and of the right length, and not what the catalogue says."""
    standin.fault(item, "catalogue_mismatch")
    one, other = get(standin, item).content, get(standin, item).content

    assert one == other
    assert len(one) == SIZE
    assert md5(one) != standin.body(item).md5


def test_replaced_body(standin: StandIn, item: Item) -> None:
    """A file changed upstream has other bytes under the old announcement."""
    old = read(standin.body(item))
    standin.replace_body(item, "other seed")

    assert get(standin, item).content != old
    assert len(get(standin, item).content) == SIZE
    standin.replace_body(item, b"tiny")
    assert get(standin, item).content == b"tiny"


def test_gzip_though_nobody_asked(standin: StandIn, item: Item) -> None:
    """The body comes compressed, and unpacks to the file."""
    standin.fault(item, "gzip", times=1)
    url = standin.url + standin.path_of(item)
    headers = AUTH | {"Accept-Encoding": "identity"}
    with requests.get(url, headers=headers, stream=True, timeout=10) as answer:
        packed = answer.raw.read(decode_content=False)

    assert answer.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed) == read(standin.body(item))


@pytest.mark.parametrize(
    ("length", "declared"),
    [
        ("absent", None),
        ("negative", str(SIZE - 2**31)),
        ("smaller", str(SIZE - 10)),
        ("larger", str(SIZE + 10)),
        (12345, "12345"),
    ],
)
def test_bad_length(standin: StandIn, item: Item, length: str | int, declared: str | None) -> None:
    """The header is false or missing; every byte comes all the same."""
    standin.fault(item, "bad_length", length=length)
    answer, body = raw(standin, item)

    assert answer.headers["Content-Length"] == declared
    assert body == read(standin.body(item))


def test_slow_drip_then_silence(standin: StandIn, item: Item) -> None:
    """Bytes drip at their speed, then nothing comes any more and the connection stays open."""
    standin.fault(item, "slow_drip", rate=20_000, after=2_000)
    url = standin.url + standin.path_of(item)
    began = time.monotonic()
    with requests.get(url, headers=AUTH, stream=True, timeout=0.7) as answer:
        body = answer.raw.read(2_000)
        taken = time.monotonic() - began
        with pytest.raises(urllib3.exceptions.ReadTimeoutError, match="timed out"):
            answer.raw.read(1)

    assert body == read(standin.body(item), 0, 2_000)
    assert taken > 0.07
    assert standin.wait_idle()  # the server notices that the client has left


def test_slow_headers(standin: StandIn, item: Item) -> None:
    """The status line is late once; a client's patience decides."""
    standin.fault(item, "slow_headers", seconds=0.3, times=1)

    with pytest.raises(requests.ReadTimeout, match="timed out"):
        requests.get(standin.url + standin.path_of(item), headers=AUTH, timeout=0.1)
    assert get(standin, item).status_code == 200


# Ranges


def test_range_is_answered_500_by_default(standin: StandIn, item: Item) -> None:
    """As users report of the portal."""
    assert get(standin, item, Range="bytes=10-").status_code == 500


@pytest.mark.parametrize(
    ("wanted", "start", "stop"),
    [("bytes=1000-", 1000, SIZE), ("bytes=5-9", 5, 10), ("bytes=-7", SIZE - 7, SIZE)],
)
def test_good_range(standin: StandIn, item: Item, wanted: str, start: int, stop: int) -> None:
    """206, the right label, the right bytes and a validator."""
    standin.settings.change(range="good")
    answer = get(standin, item, Range=wanted)

    assert answer.status_code == 206
    assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.content == read(standin.body(item), start, stop)
    assert answer.headers["ETag"] == get(standin, item).headers["ETag"]


def test_if_range_is_honoured(standin: StandIn, item: Item) -> None:
    """The right validator resumes; another gets the whole file."""
    standin.settings.change(range="good")
    tag = get(standin, item).headers["ETag"]

    assert get(standin, item, Range="bytes=5-", **{"If-Range": tag}).status_code == 206
    assert get(standin, item, Range="bytes=5-", **{"If-Range": '"x"'}).status_code == 200
    assert get(standin, item, Range=f"bytes={SIZE}-").status_code == 416


@pytest.mark.parametrize(
    ("behaviour", "status", "label", "true_bytes"),
    [
        ("ignore", 200, None, True),
        ("good_no_etag", 206, f"bytes 1000-{SIZE - 1}/{SIZE}", True),
        ("wrong_content_range", 206, f"bytes 500-{SIZE - 1}/{SIZE}", True),
        ("lying_content_range", 206, f"bytes 1000-{SIZE - 1}/{SIZE}", False),
        ("changed", 206, f"bytes 1000-{SIZE - 1}/{SIZE}", False),
        ("changed_no_etag", 206, f"bytes 1000-{SIZE - 1}/{SIZE}", False),
        ("416", 416, f"bytes */{SIZE}", False),
        ("500", 500, None, False),
    ],
)
def test_range_behaviours(
    standin: StandIn,
    item: Item,
    behaviour: str,
    status: int,
    label: str | None,
    true_bytes: bool,
) -> None:
    """Each behaviour answers as it is called; a plain GET gets the true file each time."""
    standin.fault(item, "range", behaviour=behaviour)
    first = get(standin, item)
    answer = get(standin, item, Range="bytes=1000-")
    start = {"ignore": 0, "wrong_content_range": 500}.get(behaviour, 1000)

    assert (answer.status_code, answer.headers.get("Content-Range")) == (status, label)
    assert (answer.content == read(standin.body(item), start)) is true_bytes
    assert md5(first.content) == standin.body(item).md5
    if behaviour == "changed":
        assert first.headers["ETag"] != answer.headers["ETag"]
    if behaviour.endswith("no_etag"):
        assert "ETag" not in [*first.headers, *answer.headers]


def test_multipart_range(standin: StandIn, item: Item) -> None:
    """The part asked for comes wrapped in a multipart document."""
    standin.fault(item, "range", behaviour="multipart")
    answer = get(standin, item, Range="bytes=1000-1999")

    assert answer.status_code == 206
    assert answer.headers["Content-Type"].startswith("multipart/byteranges")
    assert read(standin.body(item), 1000, 2000) in answer.content
    assert len(answer.content) > 1000


def test_cut_and_resume_together(standin: StandIn, item: Item) -> None:
    """Faults of different stages go together: a resumable server that cuts once."""
    standin.fault(item, "range", behaviour="good")
    standin.fault(item, "truncate", after=1000, times=1)
    _, begin = raw(standin, item)
    rest = get(standin, item, Range=f"bytes={len(begin)}-").content

    assert md5(begin + rest) == standin.body(item).md5


# Items and search


def test_item_has_the_shape_of_real_items(standin: StandIn) -> None:
    """Size and digest stand in the description's text, in the portal's own words."""
    item = standin.add_item(size=SIZE, identifier="S2A_X")
    quicklook, zipped = item["assets"].values()

    assert list(item["assets"])[1] == zipped["title"] == "S2A_X.zip"
    assert zipped["roles"] == ["data"]
    assert zipped["description"] == (
        f"File size: {SIZE} bytes\n\nIs reference: false\n\nIs online: false\n\n"
        f"Datatype: RAWDATA\n\nChecksum MD5: {standin.body(item).md5}"
    )
    assert quicklook["roles"] == ["overview"]
    assert quicklook["title"].endswith("/S2A_X_quicklook.jpg")
    assert requests.get(quicklook["href"], timeout=10).status_code == 200
    assert requests.get(quicklook["href"].split("?")[0], timeout=10).status_code == 403
    assert requests.get(item["links"][2]["href"], timeout=10).json() == item


def test_a_theia_item_has_the_shape_of_real_ones(standin: StandIn) -> None:
    """No version in the identifier, one in the archive's name; XML and previews by their roles."""
    item = standin.add_item(size=SIZE, collection="THEIA_REFLECTANCE_SENTINEL2_L2A")
    name = f"{item['properties']['identifier']}_V4-0.zip"

    assert not item["properties"]["identifier"].endswith("V4-0")
    assert item["properties"]["endpoint_url"].endswith(f"/{name}")
    roles = [asset["roles"][0] for asset in item["assets"].values()]
    assert sorted(roles) == ["data", "metadata", "overview", "overview", "overview", "thumbnail"]
    assert item["assets"][name]["roles"] == ["data"]
    assert "Is online: true" in item["assets"][name]["description"]
    assert get(standin, item).status_code == 200


@pytest.mark.parametrize("style", ["2024-07", "2024-11"])
def test_hrefs_of_before_2025(standin: StandIn, style: str) -> None:
    """Items saved then have the address of the back end, with a token or a scope."""
    item = standin.add_item(size=SIZE, href_style=style, upper_md5=True, quicklook=False)
    (asset,) = item["assets"].values()

    assert "/api/v1/rs-catalog/downloads/URN" in asset["href"]
    assert asset["href"].partition("?")[0].endswith(standin.body(item).md5.upper())
    answer = requests.get(asset["href"], headers=AUTH, timeout=10)
    assert md5(answer.content) == standin.body(item).md5


def test_collections_are_queried(standin: StandIn) -> None:
    """A query filters collections; an unknown name is refused."""
    url = f"{standin.url}/api/stac/collections"
    one = requests.post(url, json={"query": {"dataset": {"eq": "PEPS_S2_L1C"}}}, timeout=10)
    bad = requests.post(url, json={"query": {"mood": {"eq": "x"}}}, timeout=10)

    assert [each["id"] for each in one.json()["collections"]] == ["PEPS_S2_L1C"]
    assert bad.status_code == 400


def test_every_property_of_the_data_model_may_be_searched(standin: StandIn) -> None:
    """The 52 that pygeodes lists, and what an item has, are no unknown names."""
    listed = get_requestable_args()["attributes"]
    names = {one.split(" ")[0] for one in listed} | set(standin.add_item(size=1)["properties"])

    texts = {name: search(standin, query={name: {"neq": "x"}}).text for name in names}

    # A number that is compared with a text is refused too, in other words.
    assert [name for name, text in texts.items() if "Unknown property" in text] == []


def test_a_next_link_is_the_same_search(standin: StandIn) -> None:
    """The link of a POST carries its body, so a client that follows links stays in its search."""
    for number in range(5):
        standin.add_item(size=1, cloud_cover=float(number))
    answer = search(standin, query={"eo:cloud_cover": {"gte": 1}}, limit=2, sortBy=BY_CLOUD)
    seen = [answer.json()]
    while link := next((one for one in seen[-1]["links"] if one["rel"] == "next"), None):
        seen.append(requests.get(link["href"], timeout=10).json())

    covers = [one["properties"]["eo:cloud_cover"] for page in seen for one in page["features"]]
    assert covers == [1.0, 2.0, 3.0, 4.0]


def test_variants_are_all_there_and_downloadable(standin: StandIn) -> None:
    """Every odd item survives JSON, and each archive on this host has the bytes it should."""
    items = variants(standin, big=False)
    descriptions = {
        name: archive(items[name]).get("description", "")
        for name in ("null_size", "null_checksum", "upper_md5", "sha256")
    }

    assert json.loads(json.dumps(items)) == items
    assert "File size: null bytes" in descriptions["null_size"]
    assert descriptions["null_checksum"].endswith("Checksum null: null")
    assert standin.body(items["upper_md5"]).md5.upper() in descriptions["upper_md5"]
    assert "Checksum SHA-256: " in descriptions["sha256"]
    assert archive(items["file_multihash"])["file:checksum"].startswith("d50110")
    assert archive(items["file_bare"])["file:checksum"] == standin.body(items["file_bare"]).md5
    assert next(iter(items["xml_first"]["assets"])).endswith(".xml")
    assert not any(a["roles"] == ["data"] for a in items["no_data"]["assets"].values())
    assert "roles" not in archive(items["roles_missing"])
    assert "accessService:endpointURL" in items["old_names"]["properties"]
    for name, item in items.items():
        if name not in ("xml_only", "no_data"):
            assert get(standin, item).content == read(standin.body(item)), name


BY_CLOUD = [{"field": "eo:cloud_cover", "direction": "asc"}]


def search(standin: StandIn, **body: Any) -> requests.Response:
    """Return the answer to a search."""
    return requests.post(f"{standin.url}/api/stac/search", json=body, timeout=10)


def found(answer: requests.Response) -> list[str]:
    """Return the product names on a page."""
    return [feature["properties"]["identifier"] for feature in answer.json()["features"]]


@pytest.fixture
def hundred(standin: StandIn) -> StandIn:
    """A stand-in with a hundred items, cloudier and later from one to the next."""
    for number in range(100):
        standin.add_item(
            size=1,
            identifier=f"P{number:03d}",
            cloud_cover=float(number),
            collection="PEPS_S1_L1" if number % 2 else "PEPS_S2_L1C",
            start_datetime=f"2025-01-01T00:{number // 60:02d}:{number % 60:02d}Z",
            bbox=(float(number), 0.0, number + 0.5, 1.0),
        )
    return standin


def test_search_pages_are_cut_to_eighty(hundred: StandIn) -> None:
    """Asking for 500 gives 80 and says so; a page beyond the end is empty."""
    order = [{"field": "identifier", "direction": "asc"}]
    pages = [search(hundred, limit=500, page=page, sortBy=order) for page in (1, 2, 3)]

    assert [len(found(page)) for page in pages] == [80, 20, 0]
    assert pages[0].json()["context"] == {"returned": 80, "limit": 80, "matched": 100}
    assert found(pages[0]) + found(pages[1]) == [f"P{n:03d}" for n in range(100)]
    assert [link["rel"] for link in pages[0].json()["links"]] == ["self", "next"]


def test_unsorted_pages_overlap(hundred: StandIn) -> None:
    """Without a sort the order changes from page to page, so items come twice or never."""
    seen = found(search(hundred, limit=50, page=1)) + found(search(hundred, limit=50, page=2))

    assert len(seen) == 100
    assert len(set(seen)) < 100
    hundred.settings.stable_order = True
    seen = found(search(hundred, limit=50, page=1)) + found(search(hundred, limit=50, page=2))
    assert len(set(seen)) == 100


@pytest.mark.parametrize(
    ("body", "count"),
    [
        ({"query": {"eo:cloud_cover": {"lte": 9, "gte": 5}}}, 5),
        ({"query": {"identifier": {"in": ["P001", "P002", "none"]}}}, 2),
        ({"query": {"identifier": {"contains": "P00"}}}, 10),
        ({"query": {"identifier": {"neq": "P000"}}, "limit": 80}, 80),
        ({"query": {"start_datetime": {"lte": "2025-01-01T00:00:04.000Z"}}}, 5),
        ({"query": {"continent_code": {"contains": "EU"}, "dataset": {"eq": "PEPS_S1_L1"}}}, 50),
        ({"collections": ["PEPS_S1_L1"], "query": None, "bbox": None}, 50),
        ({"collections": ["PEPS_S1_L1", "PEPS_S2_L1C"]}, 0),
        ({"bbox": [0, 0, 3.2, 1]}, 4),
        ({"intersects": {"type": "Point", "coordinates": [200, 80]}}, 80),
        (
            {
                "intersects": {
                    "type": "Polygon",
                    "coordinates": [[[0, 0], [3.2, 0], [3.2, 1], [0, 0]]],
                }
            },
            4,
        ),
        ({"datetime": "2025-04-03T00:00:00Z/.."}, 80),
        ({"datetime": "../2025-01-01T00:00:00Z"}, 0),
    ],
)
def test_search_semantics(hundred: StandIn, body: dict[str, Any], count: int) -> None:
    """Operators combine; nulls are ignored; two collections find nothing; points are ignored."""
    assert len(found(search(hundred, **{"limit": 80} | body))) == count


@pytest.mark.parametrize(
    "body",
    [
        {"query": {"spaceborne:cloudCover": {"lte": 5}}},
        {"query": {"eo:cloud_cover": {"around": 5}}},
        {"query": {"eo:cloud_cover": {"lte": "5"}}},
        {"collections": ["NO_SUCH_COLLECTION"]},
        {"page": 0},
    ],
)
def test_bad_search_gets_400(hundred: StandIn, body: dict[str, Any]) -> None:
    """Old names, unknown operators and collections, and numbers as text are refused."""
    answer = search(hundred, **body)

    assert answer.status_code == 400
    assert answer.json()["message"].startswith("Bad search")


def test_search_switches(hundred: StandIn) -> None:
    """Counts move, a page fails once, too many searches are throttled, matched grows."""
    hundred.settings.change(counts="numbers", failing_page=2, matched_grows=True)

    assert search(hundred, limit=10, page=2).status_code == 500
    second = search(hundred, limit=10, page=2).json()
    assert "context" not in second
    assert (second["numberMatched"], second["numberReturned"]) == (101, 10)
    hundred.settings.change(search_rate=0)
    assert search(hundred).status_code == 429
    hundred.settings.change(search_rate=None, page_limit_error=True)
    assert search(hundred, limit=500).status_code == 400


def test_descending_sort_and_collections(hundred: StandIn) -> None:
    """Any direction but asc is descending; the collections count their items."""
    order = [{"field": "eo:cloud_cover", "direction": "dsc"}]
    listed = requests.post(f"{hundred.url}/api/stac/collections", json={"limit": 10000}, timeout=10)
    totals = {c["id"]: c["summaries"]["total_items"] for c in listed.json()["collections"]}

    assert found(search(hundred, sortBy=order, limit=2)) == ["P099", "P098"]
    assert totals["PEPS_S1_L1"] == 50
    assert listed.json()["context"]["matched"] == len(totals)
    got = requests.get(f"{hundred.url}/api/stac/collections/PEPS_S1_L1/items?limit=3", timeout=10)
    assert len(found(got)) == 3


@pytest.mark.parametrize(
    "path", ["/api/stac", "/api/stac/conformance", "/processing/processes/", "/login"]
)
def test_static_pages(standin: StandIn, path: str) -> None:
    """The pages that never change are there."""
    assert requests.get(standin.url + path, timeout=10).status_code == 200
    assert requests.get(f"{standin.url}{path}/nowhere", timeout=10).status_code == 404


# From outside


def test_control_routes_do_what_the_methods_do(standin: StandIn) -> None:
    """Another process can seed, break, limit and read, and leaves no line in the log."""

    def control(method: str, path: str, order: Any = None) -> Any:
        answer = requests.request(
            method, f"{standin.url}/_control/{path}", data=json.dumps(order), timeout=10
        )
        assert answer.status_code == 200, answer.text
        return answer.json()

    one = control("POST", "items", {"size": 100, "identifier": "ONE"})
    control("POST", "items", [{"size": 1}, {"size": 2}])
    control("POST", "faults", {"target": "ONE", "mode": "gone_404", "times": 1})
    control("POST", "quota", {"limit": 2, "window_s": 60})
    control("POST", "keys", ["fresh"])
    control("POST", "settings", {"bad_key": "401"})

    assert len(control("GET", "items")) == 3
    assert get(standin, one).status_code == 401
    fresh = {"X-API-Key": "fresh"}
    assert [get(standin, one, **fresh).status_code for _ in range(3)] == [404, 200, 403]
    control("POST", "clock", {"advance": 61})
    assert get(standin, one, **fresh).status_code == 200
    log = control("GET", "log?route=download")
    assert [line["status"] for line in log] == [401, 404, 200, 403, 200]
    control("DELETE", "log")
    assert control("GET", "log") == []
    assert "no_data" in control("POST", "variants", {"big": False})


@pytest.mark.parametrize(
    ("path", "order", "status"),
    [("faults", {"mode": "nonsense"}, 400), ("settings", {"nonsense": 1}, 400), ("x", {}, 404)],
)
def test_control_refuses_nonsense(
    standin: StandIn, path: str, order: dict[str, Any], status: int
) -> None:
    """A wrong order is answered with what is wrong."""
    url = f"{standin.url}/_control/{path}"

    assert requests.post(url, json=order, timeout=10).status_code == status


def test_command_line(tmp_path: Path) -> None:
    """The demo prints its address as its only line, writes its items, and stops when told."""
    items = tmp_path / "items.json"
    command = [sys.executable, "-m", "tests.standin", "--items", "2", "--size", "2KiB"]
    command += ["--api-key", KEY, "--items-file", str(items), "--rate", "100MB"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        first, second = json.loads(items.read_text())["features"]
        content = requests.get(archive(first)["href"], headers=AUTH, timeout=10).content
        process.send_signal(signal.SIGTERM)
        rest = process.stdout.read()

    assert archive(second)["href"].startswith(url)
    assert len(content) == 2 * KiB
    assert (rest, process.returncode) == ("", 0)


# The real client


@pytest.mark.filterwarnings("ignore")  # the client's own warnings are not ours to mend
def test_pygeodes_searches_and_downloads(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The portal's own client finds, checks and fetches an item as it does at GEODES."""
    pygeodes = pytest.importorskip("pygeodes")
    # Its history lies in the installed package unless told otherwise.
    monkeypatch.setattr("pygeodes.utils.profile.Profile._filepath", str(tmp_path / "p.json"))
    wanted = standin.add_item(size=SIZE, tile="T14ULD")
    standin.add_item(size=SIZE, tile="T31TCJ")
    config = pygeodes.Config(api_key=KEY, download_dir=str(tmp_path), use_async_requests=False)
    geodes = pygeodes.Geodes(config, base_url=f"{standin.url}/")

    query = {"grid:code": {"eq": "T14ULD"}}
    [item] = geodes.search_items(query=query, return_df=False, quiet=True)
    collections = geodes.search_collections(return_df=False, quiet=True)
    status = geodes.check_item_availability(item)
    geodes.download_item_archive(item)

    assert item.id == wanted["id"]
    assert item.filesize == SIZE
    assert item.data_asset_checksum == standin.body(wanted).md5
    assert "PEPS_S2_L1C" in {collection.id for collection in collections}
    assert status == {"data": "available", "quicklook": "available"}
    assert (tmp_path / archive(wanted)["title"]).read_bytes() == read(standin.body(wanted))
    assert [line.key for line in standin.downloads()] == [KEY]


@pytest.mark.filterwarnings("ignore")  # as above
def test_pygeodes_reads_a_remote_zip(
    standin: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where ranges work, its listing of an archive's members works too."""
    pygeodes = pytest.importorskip("pygeodes")
    standin.settings.change(range="good")
    standin.add_item(members={"PRODUCT/a.tif": b"a" * 100, "PRODUCT/b.xml": b"<b/>"})
    config = pygeodes.Config(api_key=KEY, download_dir=str(tmp_path), use_async_requests=False)
    geodes = pygeodes.Geodes(config, base_url=f"{standin.url}/")
    [item] = geodes.search_items(bbox=[0, 40, 5, 50], return_df=False, quiet=True)

    assert geodes.list_item_files(item) == ["PRODUCT/a.tif", "PRODUCT/b.xml"]
