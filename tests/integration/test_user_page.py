"""The user's page, its snippets run as written with only the import swapped."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pygeodes
import pytest

from geodes_tasks.errors import (
    ArchiveError,
    AuthError,
    ConfigError,
    ForbiddenError,
    HostileNameError,
    NoMemberError,
    OfflineError,
)
from geodes_tasks.pygeodes.explorer import Explorer
from geodes_tasks.pygeodes.geodes import Geodes
from geodes_tasks.pygeodes.item import Item
from geodes_tasks.pygeodes.profile import Profile
from geodes_tasks.settings import config
from geodes_tasks.settings.config import Config
from geodes_tasks.utils import exceptions
from tests.integration.s3_server import BUCKET, S3Server
from tests.standin import Item as ItemJson
from tests.standin import KiB, Quota, StandIn, read

KEY = "standin-key-0123456789"


@pytest.fixture(autouse=True)
def own_sockets(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the private servers of this test apart from those of others."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("run")))


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Server]:
    """Start the datalake."""
    with S3Server() as server:
        yield server


@pytest.fixture
def conf(standin: StandIn, tmp_path: Path) -> Config:
    """Give a configuration as a user writes it."""
    return Config(
        api_key=KEY,
        download_dir=str(tmp_path / "downloads"),
        portal_url=standin.url,
        s3_endpoint_url="http://127.0.0.1:1",
        backoff_seconds=0.05,
        quota="off",
    )


def changed(conf: Config, **changes: Any) -> Config:
    """Return a copy with other values."""
    copy = conf.replace()
    for name, value in changes.items():
        setattr(copy, name, value)
    return copy


def whole(standin: StandIn, item: ItemJson) -> bytes:
    """Give the bytes of an item's archive."""
    return read(standin.body(item))


def title(item: ItemJson) -> str:
    """Give the file name of an item's archive."""
    return next(str(key) for key in item["assets"] if key.endswith(".zip"))


# --- at the same time ---


def test_threads_that_download_one_item_get_its_file(
    standin: StandIn, conf: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One of them publishes; the others find the file, and none tells of leases or other files."""
    standin.settings.change(rate=400 * KiB)
    geodes, item = Geodes(conf), standin.add_item(200 * KiB)
    # The worst case: all of them begin in one millisecond.
    clock = SimpleNamespace(time_ns=lambda: 1_800_000_000_000_000_000)
    monkeypatch.setattr("geodes_tasks.transfer.download.time", clock)

    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(geodes.download_item_archive, [item] * 4))

    assert [path.read_bytes() for path in paths] == [whole(standin, item)]
    assert list((tmp_path / "downloads").iterdir()) == list(paths)


# --- the page ----------------------------------------------------------------------------------

PAGE = """
from geodes_tasks import Geodes, Config

conf = Config.from_file()
geodes = Geodes(conf)
items, dataframe = geodes.search_items(query={"dataset": {"eq": "PEPS_S2_L1C"}}, get_all=True)
item = items[0]

geodes.download_item_archive(item) # geodes being your Geodes instance with an api key

geodes.download_item_archive(item,outfile="my_item.zip")
geodes.download_item_archive(item,outfile="./my_item.zip")
geodes.download_item(item)
item.download_archive()

from geodes_tasks.utils.profile import DownloadQueue,Profile

Profile.reset() # not mandatory but it clears the download history, may help
item1, item2, *rest = items
items_to_download = [item1,item2,*rest]

queue = DownloadQueue(items_to_download,download_dir="queued")

queue.run()

queue.check_integrity()

if geodes.s3_client:
    for bucket in geodes.s3_client.buckets.all(): # s3_client is already configured
        print(bucket.name)
"""


def run_page(folder: Path, standin: StandIn, s3_url: str, page: str = PAGE) -> str:
    """Run a page as a plain script in a folder. Return its stdout."""
    variables = {
        "GEODES_TASKS_PORTAL_URL": standin.url,
        "GEODES_TASKS_S3_ENDPOINT_URL": s3_url,
        "GEODES_TASKS_QUOTA": "off",
    }
    (folder / "page.py").write_text(page)
    done = subprocess.run(
        [sys.executable, "page.py"],
        env=os.environ | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_page_runs_as_a_script(standin: StandIn, tmp_path: Path) -> None:
    """With pygeodes' file unchanged and an API key, each file is where the page says."""
    items = [standin.add_item(size=30 * KiB) for _ in range(4)]
    folder = tmp_path / "work"
    folder.mkdir()
    pygeodes_file = {"api_key": KEY, "download_dir": "down", "logging_level": "DEBUG"}
    (folder / "pygeodes-config.json").write_text(json.dumps(pygeodes_file))

    out = run_page(folder, standin, "http://127.0.0.1:1")

    first = whole(standin, items[0])
    assert out == ""
    assert (folder / "down" / title(items[0])).read_bytes() == first
    assert (folder / "down" / "my_item.zip").read_bytes() == first
    assert (folder / "my_item.zip").read_bytes() == first
    for item in items:
        assert (folder / "queued" / title(item)).read_bytes() == whole(standin, item)
    # Nothing else was written: no configuration, no state, no leftovers.
    assert {path.name for path in folder.iterdir()} == {
        "page.py", "pygeodes-config.json", "down", "queued", "my_item.zip",
    }  # fmt: skip


def in_the_datalake(standin: StandIn, s3: S3Server, folder: Path) -> list[ItemJson]:
    """Add three items that S3 serves, and write pygeodes' file with S3 credentials alone."""
    items = []
    for number in range(3):
        key = f"2025/04/02/product{number}.zip"
        item = standin.add_item(size=30 * KiB, endpoint_url=f"{s3.url}/{BUCKET}/{key}")
        s3.put(key, whole(standin, item))
        items.append(item)
    credentials = {
        "aws_access_key_id": "ASIAEXAMPLE",
        "aws_secret_access_key": "secret-of-s3",
        "aws_session_token": "token-of-s3",
        "region_name": "us-east-1",
        "download_dir": "down",
    }
    folder.mkdir()
    (folder / "pygeodes-config.json").write_text(json.dumps(credentials))
    return items


def test_with_s3_credentials_the_page_uses_s3(
    standin: StandIn, s3: S3Server, tmp_path: Path
) -> None:
    """With S3 credentials in the file no byte comes from the portal, and buckets are listed."""
    folder = tmp_path / "work"
    items = in_the_datalake(standin, s3, folder)

    out = run_page(folder, standin, s3.url)

    assert out.splitlines() == [BUCKET]
    assert standin.downloads() == []
    for item in items:
        assert (folder / "queued" / title(item)).read_bytes() == whole(standin, item)


MAKE_GEODES = """
from pygeodes import Geodes, Config
geodes = Geodes(Config.from_file())
item1, item2, *_ = items = geodes.search_items(
    query={"dataset": {"eq": "PEPS_S2_L1C"}}, get_all=True, return_df=False
)
item = items[0]
"""
"""The cell before the page, of pygeodes' page on searching."""


def test_the_snippets_of_pygeodes_documentation_run(
    standin: StandIn, s3: S3Server, tmp_path: Path
) -> None:
    """Every snippet of pygeodes' page on downloads runs with only the package's name replaced."""
    paths = (one / "shared" / "seed" / "downloading.rst" for one in Path(__file__).parents)
    source = next((path for path in paths if path.is_file()), None)
    if source is None:
        pytest.skip("pygeodes' page is not beside this checkout")
    text = source.read_text() + "\n"
    snippets = re.findall(r"\.\. code-block:: python\n\n((?:(?:    .*)?\n)+)", text)
    # The page writes `[item1,item2,...]` for a longer list.
    page = MAKE_GEODES + "".join(map(textwrap.dedent, snippets)).replace(",...]", "]")
    folder = tmp_path / "work"
    items = in_the_datalake(standin, s3, folder)

    page = page.replace("pygeodes", "geodes_tasks")
    page = page.replace("/tmp/downloads", str(folder / "queued"))  # noqa: S108 - the page's own
    out = run_page(folder, standin, s3.url, page)

    assert len(snippets) == 6
    assert out.splitlines() == [BUCKET]
    assert (folder / "down" / title(items[0])).read_bytes() == whole(standin, items[0])
    assert (folder / "down" / "my_item.zip").read_bytes() == whole(standin, items[0])
    for item in items[:2]:
        assert (folder / "queued" / title(item)).read_bytes() == whole(standin, item)


@pytest.mark.parametrize(
    ("changes", "fault", "name"),
    [
        ({"api_key": None}, None, "RequiresApiKeyException"),
        ({}, "corrupt", "InvalidChecksumException"),
    ],
)
def test_an_except_clause_of_pygeodes_catches(
    standin: StandIn, conf: Config, changes: dict[str, Any], fault: str | None, name: str
) -> None:
    """A missing key and wrong bytes raise what pygeodes' names for them mean."""
    item = standin.add_item(size=KiB)
    if fault is not None:
        standin.fault(item, fault)

    with pytest.raises(getattr(exceptions, name), match=r"key|MD5|md5"):
        Geodes(changed(conf, **changes)).download_item_archive(item)


def test_more_except_clauses_of_pygeodes_catch(standin: StandIn, conf: Config) -> None:
    """An item without data, a search of too many items and a bad address too."""
    item = standin.add_item(size=KiB)
    standin.add_item(size=KiB)
    empty = item | {"assets": {}}
    geodes = Geodes(changed(conf, nb_max_items=1))

    with pytest.raises(exceptions.DataAssetMissingException, match="has no assets"):
        geodes.download_item_archive(empty)
    with pytest.raises(exceptions.TooManyResultsException, match="finds 2 items, the limit is 1"):
        geodes.search_items(query={"dataset": {"eq": "PEPS_S2_L1C"}}, get_all=True)
    with pytest.raises(exceptions.InvalidURLException, match=r"(?i)portal_url"):
        Geodes(conf, base_url="not an address")


def test_the_s3_client_is_a_client_too(s3: S3Server) -> None:
    """Scripts that use the boto3 client of pygeodes go on: both spellings work."""
    s3.put("some/key.txt", b"hello")
    settings = config.load(
        s3_endpoint_url=s3.url, aws_access_key_id="A", aws_secret_access_key="secret-of-s3"
    )

    client: Any = Explorer(settings)

    assert client.get_object(Bucket=BUCKET, Key="some/key.txt")["Body"].read() == b"hello"
    assert "some/key.txt" in [one.key for one in client.Bucket(BUCKET).objects.all()]
    assert "secret-of-s3" not in repr(client)


# --- Config ------------------------------------------------------------------------------------


def test_a_named_file_is_read_alone_and_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A named file wins over the environment, and the usual file is not read beside it."""
    path = tmp_path / "mine.json"
    content = json.dumps({"api_key": "of-file", "region_name": "r", "nb_max_items": 5})
    path.write_text(content, encoding="utf-8-sig")
    Path("pygeodes-config.json").write_text('{"aws_access_key_id": "of-usual-file"}')
    monkeypatch.setenv("GEODES_API_KEY", "of-environment")

    conf = Config.from_file(path)

    assert (conf.api_key, conf.region_name, conf.nb_max_items) == ("of-file", "r", 5)
    assert conf.aws_access_key_id is None
    assert Config().aws_access_key_id == "of-usual-file"
    assert Config(api_key="of-keyword").api_key == "of-keyword"
    assert Config().api_key == "of-environment"


def test_pygeodes_own_order_and_names(tmp_path: Path) -> None:
    """Positional arguments, ``to_dict`` and the methods of S3 are those of pygeodes."""
    conf = Config("key", "DEBUG", tmp_path / "d", False, False, 7, "id", "secret", "token", "eu")
    theirs = pygeodes.Config("key", "DEBUG", tmp_path / "d", False, False, 7, "id", "secret",
                            "token", "eu")  # fmt: skip

    assert conf.to_dict() == theirs.to_dict()
    assert conf.s3_parameters == theirs.s3_parameters
    assert conf.has_s3_parameters()
    conf.check_s3_config()
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID: is not set"):
        Config().check_s3_config()


def test_unknown_keys_warn(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A key that means nothing is named, and the rest of the file is used."""
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"api_key": "k", "colour\x1b[2J": "blue"}))

    conf = Config.from_file(path)

    assert conf.has_api_key
    assert r"unknown keys are ignored: 'colour\x1b[2J'" in caplog.text


def test_secrets_are_not_shown() -> None:
    """Neither a configuration nor what is made of it shows a secret."""
    conf = Config(
        api_key="very-secret-key",
        aws_access_key_id="A",
        aws_secret_access_key="very-secret-too",
        redis_url="redis://:very-secret-word@host/0",
    )

    shown = f"{conf!r} {conf} {Geodes(conf)!r} {conf.to_dict().keys()!r}"

    assert "very-secret" not in shown


def test_a_configuration_can_be_changed(conf: Config, tmp_path: Path) -> None:
    """As in pygeodes a field can be set afterwards, and counts from then on."""
    geodes = Geodes(conf)

    geodes.conf.download_dir = str(tmp_path / "elsewhere")

    assert geodes.folder == tmp_path / "elsewhere"
    assert geodes.conf.download_dir == str(tmp_path / "elsewhere")


@pytest.mark.parametrize(
    ("given", "error", "problem"),
    [
        ({"api_kee": "k"}, TypeError, "no api_kee; did you mean api_key"),
        ({"portal_url": "http://example.org"}, ConfigError, "plain http"),
    ],
)
def test_what_cannot_be_configured_is_named(
    given: dict[str, Any], error: type[Exception], problem: str
) -> None:
    """A misspelt name or a bad value is said at once, not at the first download."""
    with pytest.raises(error, match=problem):
        Config(**given)
    conf = Config()
    changing = AttributeError if error is TypeError else error
    with pytest.raises(changing, match=problem):
        setattr(conf, *next(iter(given.items())))


@pytest.mark.parametrize("field", ["api_key", "aws_secret_access_key", "portal_url", "redis_url"])
def test_an_error_quotes_no_secret(field: str) -> None:
    """A value that cannot be used is not in the traceback: it may be a secret."""
    value = {"portal_url": "https://me:hush-hush@h", "redis_url": 7}.get(field, "hush-hush word")

    with pytest.raises(ConfigError) as caught:
        Config(**{field: value})

    assert "hush" not in "".join(traceback.format_exception(caught.value))


def test_a_missing_file_is_named() -> None:
    """Without the file that was asked for, its name is said; none is made."""
    with pytest.raises(ConfigError, match=r"pygeodes-config\.json"):
        Config.from_file()

    assert not Path("pygeodes-config.json").exists()


def test_geodes_takes_settings_too(standin: StandIn) -> None:
    """Settings that were loaded elsewhere serve as a configuration."""
    settings: Config = config.load(portal_url=standin.url, api_key=KEY)

    geodes = Geodes(settings, base_url="https://other.example")

    assert (geodes.base_url, geodes.conf.api_key) == ("https://other.example", KEY)
    assert Geodes.get_last_instance() is geodes


# --- one archive -------------------------------------------------------------------------------


def test_trouble_that_passes_is_waited_out(standin: StandIn, conf: Config) -> None:
    """Broken connections and server errors cost time, not the download."""
    item = standin.add_item(size=300 * KiB)
    standin.fault(item, "truncate", after=100_000, times=1)
    standin.fault(item, "status_n_times", status=503, times=2)

    path = Geodes(conf).download_item_archive(item)

    assert path.read_bytes() == whole(standin, item)


def test_a_used_up_quota_is_waited_out(
    standin: StandIn, conf: Config, capfd: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    """When the portal says that its quota is used up, the wait is said and the file comes."""
    item = standin.add_item(size=KiB)
    standin.quota = Quota(1, 3600.0)
    geodes = Geodes(conf)
    geodes.download_item_archive(standin.add_item(size=KiB))
    monkeypatch.setattr("time.sleep", standin.advance)

    path = geodes.download_item_archive(item)

    assert path.read_bytes() == whole(standin, item)
    assert "quota" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("everywhere", "fault", "error", "problem"),
    [
        (True, "bad_key", AuthError, "was refused"),
        (False, "bad_key", ForbiddenError, "no right to this file"),
        (False, "offline_410", OfflineError, "on tape"),
    ],
)
def test_what_somebody_must_mend_is_raised(
    standin: StandIn,
    conf: Config,
    everywhere: bool,
    fault: str,
    error: type[Exception],
    problem: str,
) -> None:
    """A refused key, a forbidden file and one on tape are said at once; the folder stays empty."""
    item = standin.add_item(size=KiB)
    standin.fault(None if everywhere else item, fault)
    geodes = Geodes(conf)

    with pytest.raises(error, match=problem):
        geodes.download_item_archive(item)

    assert not geodes.folder.exists() or list(geodes.folder.iterdir()) == []


def test_a_hostile_title_stays_outside(standin: StandIn, conf: Config) -> None:
    """A title that would leave the download folder is refused before anything is asked for."""
    item = standin.add_item(size=KiB, title="../../outside.zip")
    geodes = Geodes(conf)

    with pytest.raises(HostileNameError, match="another folder"):
        geodes.download_item_archive(item)

    assert standin.downloads() == []


def test_many_archives_under_given_names(standin: StandIn, conf: Config) -> None:
    """Each item gets its own name; one that fails is None and stops no other."""
    items = [standin.add_item(size=KiB) for _ in range(3)]
    standin.fault(items[1], "gone_404")

    paths = Geodes(conf).download_item_archives(items, ["a.zip", "b.zip", None])

    folder = Path(conf.download_dir)
    assert paths == [folder / "a.zip", None, folder / title(items[2])]


def test_one_name_for_many_items(
    standin: StandIn, conf: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """No file of the user and no file of another item is replaced; the path names the new one."""
    items = [standin.add_item(size=KiB) for _ in range(3)]
    geodes = Geodes(conf)
    folder = Path(conf.download_dir)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.zip").write_bytes(b"notes")

    paths = [geodes.download_item_archive(item, outfile="mine.zip") for item in items]
    said = [one.getMessage() for one in caplog.records if "was not replaced" in one.getMessage()]
    again = [geodes.download_item_archive(item, outfile="mine.zip") for item in items]

    assert paths == again == [folder / f"mine-{number}.zip" for number in (1, 2, 3)]
    assert (folder / "mine.zip").read_bytes() == b"notes"
    assert [path.read_bytes() for path in paths] == [whole(standin, item) for item in items]
    assert [len(standin.downloads(item)) for item in items] == [1, 1, 1]
    assert len(said) == 3
    assert "the new file is mine-1.zip" in said[0]


def test_many_archives_of_one_name(standin: StandIn, conf: Config) -> None:
    """A name given twice is given to one of them."""
    items = [standin.add_item(size=KiB) for _ in range(2)]

    paths = Geodes(conf).download_item_archives(items, ["a.zip", "a.zip"])

    folder = Path(conf.download_dir)
    assert paths == [folder / "a.zip", folder / "a-1.zip"]


def test_the_original_title_is_taken_by_other_bytes(standin: StandIn, conf: Config) -> None:
    """Without a name of one's own the same holds."""
    item = standin.add_item(size=KiB)
    wanted = Path(conf.download_dir) / title(item)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    wanted.write_bytes(b"x" * KiB)

    path = Geodes(conf).download_item_archive(item)

    assert path == wanted.with_name(f"{wanted.stem}-1.zip")
    assert wanted.read_bytes() == b"x" * KiB


def test_many_archives_go_through_a_queue(standin: StandIn, conf: Config) -> None:
    """Without names the items are downloaded several at a time, and their paths are given."""
    items = [standin.add_item(size=KiB) for _ in range(3)]
    standin.fault(items[0], "licence_423")

    paths = Geodes(conf).download_item_archives([Item.from_dict(item) for item in items])

    folder = Path(conf.download_dir)
    assert paths == [None, folder / title(items[1]), folder / title(items[2])]


def test_archives_alone_are_downloaded(standin: StandIn, conf: Config) -> None:
    """Of an item with another data asset its archive comes, as for one item, and nothing else."""
    item, other = standin.add_item(size=KiB), standin.add_item(size=2 * KiB)
    data = other["assets"][title(other)]
    both = item | {"assets": item["assets"] | {"zz_second.h5": data | {"title": "zz_second.h5"}}}

    paths = Geodes(conf).download_item_archives([both, item, {"id": "URN:none", "assets": {}}])

    folder = Path(conf.download_dir)
    assert paths == [folder / title(item), folder / title(item), None]
    assert [path.name for path in folder.glob("*.*")] == [title(item)]
    assert len(standin.downloads(other)) == 0


def test_a_quicklook_is_given(standin: StandIn, conf: Config) -> None:
    """The preview's bytes are there for whoever wants to show them."""
    item = standin.add_item(size=KiB)
    (preview,) = (key for key in item["assets"] if key.endswith(".jpg"))

    content = Geodes(conf).quicklook(item)

    assert len(content) == 18 * KiB
    assert Item.from_dict(item).assets[preview].href.startswith(standin.url)


# --- members -----------------------------------------------------------------------------------

MEMBERS = {
    "P/IMG_B4.tif": bytes(range(256)) * 2000,
    "P/IMG_B8.tif": b"b8" * 100_000,
    "P/MTD.xml": b"<x/>",
}


@pytest.mark.parametrize("pattern", [r".*_B4\.tif", "*_B4.tif", "P/IMG_B4*.tif", "P/*4.tif"])
def test_single_files_come_by_range(standin: StandIn, conf: Config, pattern: str) -> None:
    """Where the server gives parts, one band costs its own bytes and not the whole archive."""
    standin.settings.change(range="good")
    item = standin.add_item(members={"P/big.bin": b"0" * 4_000_000} | MEMBERS)
    geodes = Geodes(conf)

    names = geodes.list_item_files(item)
    paths = geodes.download_item_files(item, pattern=pattern)

    assert names == ["P/big.bin", *MEMBERS]
    assert paths == [geodes.folder / "P" / "IMG_B4.tif"]
    assert paths[0].read_bytes() == MEMBERS["P/IMG_B4.tif"]
    assert not (geodes.folder / title(item)).exists()
    assert all(request.status == 206 for request in standin.downloads(item))
    assert [path.name for path in geodes.folder.iterdir()] == ["P"]


def test_without_ranges_the_archive_comes_whole(
    standin: StandIn, conf: Config, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where the server gives no parts that is said, and the archive is fetched once and kept."""
    item = standin.add_item(members={"P/big.bin": b"0" * 400_000} | MEMBERS)
    geodes = Geodes(conf)

    names = geodes.list_item_files(item)
    said = capfd.readouterr().err
    standin.reset_log()
    paths = geodes.download_item_files(item, filenames=["P/MTD.xml"])

    assert "the server does not give parts of it; downloading the whole archive" in said
    assert names[1:] == list(MEMBERS)
    assert paths[0].read_bytes() == b"<x/>"
    assert standin.downloads() == []


def test_single_files_come_from_s3(standin: StandIn, conf: Config, s3: S3Server) -> None:
    """With S3 credentials the parts come from the datalake."""
    item = standin.add_item(
        members={"P/big.bin": b"0" * 400_000} | MEMBERS,
        endpoint_url=f"{s3.url}/{BUCKET}/members.zip",
    )
    s3.put("members.zip", whole(standin, item))
    conf = changed(
        conf, s3_endpoint_url=s3.url, aws_access_key_id="A", aws_secret_access_key="secret"
    )

    paths = Geodes(conf).download_item_files(item, filenames=["P/IMG_B8.tif"])

    assert paths[0].read_bytes() == MEMBERS["P/IMG_B8.tif"]
    assert standin.downloads() == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"size": 200 * KiB}, "no sound zip archive"),
        ({"members": MEMBERS}, "no member matches 'P/nothing.tif'; it has P/IMG_B4.tif"),
    ],
)
def test_what_has_no_such_member_says_so(
    standin: StandIn, conf: Config, options: dict[str, Any], problem: str
) -> None:
    """A file that is no archive, and a member that is not in it, are named."""
    standin.settings.change(range="good")
    item = standin.add_item(**options)
    geodes = Geodes(conf)

    wanted: list[dict[str, Any]] = [{"filenames": ["P/nothing.tif"]}, {"pattern": "P/nothing.tif"}]
    for names in [*wanted, {"members": ["P/nothing.tif"]}]:
        with pytest.raises((ArchiveError, NoMemberError), match=problem):
            geodes.download_item_files(item, **names)


def test_members_replace_no_file(
    standin: StandIn, conf: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """A file of the user stays beside the member; a copy of the member is not fetched again."""
    standin.settings.change(range="good")
    item = standin.add_item(members=MEMBERS)
    geodes = Geodes(conf)
    (geodes.folder / "P").mkdir(parents=True)
    (geodes.folder / "P" / "MTD.xml").write_bytes(b"mine")

    paths = geodes.download_item_files(item, filenames=["P/MTD.xml", "P/IMG_B8.tif"])
    before = sum(one.bytes_sent for one in standin.downloads(item))
    again = geodes.download_item_files(item, filenames=["P/MTD.xml", "P/IMG_B8.tif"])
    sent = sum(one.bytes_sent for one in standin.downloads(item)) - before

    assert paths == again == [geodes.folder / "P/MTD-1.xml", geodes.folder / "P/IMG_B8.tif"]
    assert (geodes.folder / "P" / "MTD.xml").read_bytes() == b"mine"
    assert [path.read_bytes() for path in paths] == [MEMBERS["P/MTD.xml"], MEMBERS["P/IMG_B8.tif"]]
    assert sent < 200 * KiB
    assert "the new file is MTD-1.xml" in caplog.text


def test_a_member_cannot_leave_the_folder(standin: StandIn, conf: Config, tmp_path: Path) -> None:
    """A member whose name leads upwards lands in the folder all the same."""
    item = standin.add_item(members={"../../evil.txt": b"evil"})
    geodes = Geodes(conf)

    (path,) = geodes.download_item_files(item, filenames=["../../evil.txt"])

    assert path == geodes.folder / "evil.txt"
    assert not (tmp_path.parent / "evil.txt").exists()


def test_a_single_download_is_in_the_profile(standin: StandIn, conf: Config) -> None:
    """It is known without a queue, with local times; a reset hides what ended before it."""
    first, second = standin.add_item(size=KiB), standin.add_item(size=KiB)
    geodes = Geodes(conf)
    geodes.download_item_archive(first)
    Profile.reset(conf)
    begin = datetime.now()  # noqa: DTZ005 - as pygeodes' users compare
    path = geodes.download_item_archive(second)

    (found,) = Profile.load(conf).downloads.values()

    assert found.destination == str(path)
    assert found.started_at is not None
    assert found.completed_at is not None
    assert begin < found.started_at <= found.completed_at < datetime.now()  # noqa: DTZ005
    assert Profile.load(conf).recent_downloads("today") == [found]
