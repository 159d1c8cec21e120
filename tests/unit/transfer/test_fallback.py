"""Sources of one file: their order, what is resumed from another one, and which error is raised."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodes_tasks.errors import (
    ArchivedObjectError,
    CatalogueMismatchError,
    FolderError,
    GeodesTasksError,
    HrefRefusedError,
    KeyMissingError,
    NoObjectError,
    NotFoundError,
    QuotaError,
    Reaction,
    ServerError,
    SourceUnavailableError,
    ThrottledError,
    TransferError,
    TruncatedBodyError,
)
from geodes_tasks.model.states import Outcome
from geodes_tasks.transfer.download import download
from geodes_tasks.transfer.fallback import GAIN_BYTES
from geodes_tasks.transports import Member, Transport
from tests.conftest import MemoryTransport, asset_of, some_bytes
from tests.unit.transfer.scene import CONTENT, HALF, WRONG, MiB, Recorder, broken, fetch, names
from tests.unit.transfer.test_edges import FILES, FolderTransport

PROVEN = asset_of(CONTENT, hrefs={"geodes": "x/product/"})
TWO = asset_of(
    CONTENT,
    "a.tif",
    hrefs={"geodes": "x/product/", "s3": "s3://bucket/a"},
    checksum=None,
    size_bytes=None,
)
BOTH = asset_of(CONTENT, hrefs={"geodes": "https://portal.invalid/a", "s3": "s3://bucket/a"})


def test_the_preferred_source_comes_first(final: Path) -> None:
    """The order of the transports decides, and the result says who gave the bytes."""
    s3, geodes = MemoryTransport(CONTENT), MemoryTransport(CONTENT)

    result = download(BOTH, final, {"s3": s3, "geodes": geodes})

    assert (result.source, geodes.opened) == ("s3", [])


def test_a_source_that_cannot_give_the_file_passes_it_on(final: Path) -> None:
    """Where one source has no right or no such key, the next one is asked."""
    denied = SourceUnavailableError("s3", "s3://bucket/a", "access denied")
    s3, geodes = MemoryTransport(CONTENT, errors=[denied]), MemoryTransport(CONTENT)
    recorder = Recorder()

    result = download(BOTH, final, {"s3": s3, "geodes": geodes}, callbacks=recorder)

    assert (result.source, recorder.sources) == ("geodes", ["s3", "geodes"])
    assert final.read_bytes() == CONTENT


def test_the_last_sources_refusal_is_the_answer(final: Path) -> None:
    """When no source can give the file, the error says so."""
    denied = SourceUnavailableError("s3", "s3://bucket/a", "access denied")
    only_s3 = asset_of(CONTENT, hrefs={"s3": "s3://bucket/a"})

    with pytest.raises(SourceUnavailableError, match="access denied"):
        download(only_s3, final, {"s3": MemoryTransport(CONTENT, errors=[denied])})

    assert names(final) == []


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoObjectError("s3", "s3://bucket/a", "no such object"), NotFoundError),
        (ArchivedObjectError("s3", "s3://bucket/a", "archived"), ArchivedObjectError),
    ],
)
def test_what_the_last_source_does_not_have_ends(
    final: Path, error: GeodesTasksError, expected: type[GeodesTasksError]
) -> None:
    """A missing object is a missing file, an archived one is final; the portal may have both."""
    only_s3 = asset_of(CONTENT, hrefs={"s3": "s3://bucket/a"})

    with pytest.raises(expected) as caught:
        download(only_s3, final, {"s3": MemoryTransport(b"", errors=[error])})

    assert caught.value.reaction is Reaction.FINAL
    sources = both(MemoryTransport(b"", errors=[error]), MemoryTransport(CONTENT))
    assert download(BOTH, final, sources).source == "geodes"


def test_without_a_key_the_reason_of_the_datalake_is_named(final: Path) -> None:
    """Users of the datalake alone have no key: what they can mend is what S3 says."""
    denied = SourceUnavailableError("s3", "s3://bucket/a", "access denied")
    no_key = KeyMissingError("h", "GEODES_API_KEY", "is not set")
    sources = both(MemoryTransport(b"", errors=[denied]), MemoryTransport(b"", errors=[no_key]))

    with pytest.raises(KeyMissingError, match="is not set; s3 cannot give it: access denied"):
        download(BOTH, final, sources)


def both(s3: MemoryTransport, geodes: MemoryTransport) -> dict[str, Transport]:
    """Give the two sources in their usual order."""
    return {"s3": s3, "geodes": geodes}


def test_what_breaks_in_the_middle_goes_on_over_the_other_source(final: Path) -> None:
    """The same checksum names the same bytes: only the rest comes over the other source."""
    s3, geodes = MemoryTransport(CONTENT, cuts=[HALF]), MemoryTransport(CONTENT, etag='"other"')
    recorder = Recorder()

    result = download(BOTH, final, both(s3, geodes), callbacks=recorder)

    assert (s3.opened, geodes.opened) == ([(0, None)], [(HALF, None)])
    assert result.sources == {"s3": HALF, "geodes": len(CONTENT) - HALF}
    assert (result.source, result.outcome) == ("geodes", Outcome.DOWNLOADED)
    assert (recorder.refusals, final.read_bytes()) == (["s3: TruncatedBodyError"], CONTENT)


def test_the_other_source_begins_anew_where_it_cannot_resume(final: Path) -> None:
    """A portal without ranges gives the whole file; nothing of the first source is left in it."""
    s3, geodes = MemoryTransport(CONTENT, cuts=[HALF]), MemoryTransport(CONTENT, resumes=False)

    result = download(BOTH, final, both(s3, geodes))

    assert result.sources == {"s3": HALF, "geodes": len(CONTENT)}
    assert final.read_bytes() == CONTENT


def test_without_a_checksum_nothing_is_joined_across_sources(final: Path) -> None:
    """Bytes that nobody could prove together begin at 0, even where the server resumes."""
    unproven = asset_of(CONTENT, hrefs=BOTH.hrefs, checksum=None, title="a.bin")
    s3, geodes = MemoryTransport(CONTENT, cuts=[HALF]), MemoryTransport(CONTENT)

    download(unproven, final, both(s3, geodes))

    assert geodes.opened == [(0, None)]
    assert final.read_bytes() == CONTENT


def test_the_way_round_too(final: Path) -> None:
    """A portal that fails in the middle hands over to the datalake."""
    s3, geodes = MemoryTransport(CONTENT), MemoryTransport(CONTENT, cuts=[HALF])

    result = download(BOTH, final, {"geodes": geodes, "s3": s3})

    assert s3.opened == [(HALF, None)]
    assert (result.source, final.read_bytes()) == ("s3", CONTENT)


def test_a_source_that_gains_is_asked_once_more(final: Path) -> None:
    """One broken connection does not cost the portal's quota: the rest comes from the same."""
    content = some_bytes(3 * GAIN_BYTES)
    asset = asset_of(content, hrefs=BOTH.hrefs)
    s3, geodes = MemoryTransport(content, cuts=[2 * GAIN_BYTES]), MemoryTransport(content)

    download(asset, final, both(s3, geodes))

    assert s3.opened == [(0, None), (2 * GAIN_BYTES, '"v1"')]
    assert (geodes.opened, final.read_bytes()) == ([], content)


def test_a_source_that_breaks_at_the_same_byte_is_left(final: Path) -> None:
    """Without a gain there is no second chance, so nothing goes on for ever."""
    content = some_bytes(3 * GAIN_BYTES)
    asset = asset_of(content, hrefs=BOTH.hrefs)
    s3 = MemoryTransport(content, resumes=False, cuts=[2 * GAIN_BYTES] * 9)

    result = download(asset, final, both(s3, MemoryTransport(content)))

    assert (len(s3.opened), result.source) == (2, "geodes")


def test_a_corrupt_copy_is_fetched_from_the_other_source(final: Path) -> None:
    """Wrong bytes of one source cost no attempt where the other has the right ones."""
    recorder = Recorder()

    result = download(
        BOTH, final, both(MemoryTransport(WRONG), MemoryTransport(CONTENT)), callbacks=recorder
    )

    assert recorder.refusals == ["s3: ChecksumMismatchError"]
    assert (result.source, result.verified, final.read_bytes()) == ("geodes", True, CONTENT)


def test_two_sources_that_agree_put_the_catalogue_in_doubt(final: Path) -> None:
    """Equal whole copies from both sources tell at once that it is the catalogue."""
    with pytest.raises(CatalogueMismatchError, match="two full copies"):
        download(BOTH, final, both(MemoryTransport(WRONG), MemoryTransport(WRONG)))

    assert not final.exists()


def test_an_object_of_another_size_is_left_to_the_other_source(final: Path) -> None:
    """What cannot be the file is not fetched for nothing."""
    s3, geodes = MemoryTransport(CONTENT + b"more"), MemoryTransport(CONTENT)

    result = download(BOTH, final, both(s3, geodes))

    assert (result.source, s3.sent_bytes) == ("geodes", 0)


@pytest.mark.parametrize(
    ("of_s3", "of_portal", "expected"),
    [
        (SourceUnavailableError("s3", "h", "no such object"), NotFoundError("h", 404),
         NotFoundError),
        (TransferError("h", "reset"), NotFoundError("h", 404), TransferError),
        (TransferError("h", "reset"), QuotaError("h", "used"), QuotaError),
        (SourceUnavailableError("s3", "h", "denied"), TransferError("h", "reset"), TransferError),
        (NoObjectError("s3", "h", "none"), TransferError("h", "reset"), TransferError),
        (NoObjectError("s3", "h", "none"), SourceUnavailableError("geodes", "h", "denied"),
         SourceUnavailableError),
        (ThrottledError("h", 3.0), TransferError("h", "reset"), ThrottledError),
    ],
)  # fmt: skip
def test_of_several_errors_the_telling_one_is_raised(
    final: Path,
    of_s3: GeodesTasksError,
    of_portal: GeodesTasksError,
    expected: type[GeodesTasksError],
) -> None:
    """What waits comes before what is tried again, that before what ends; a denial says least."""
    sources = both(MemoryTransport(b"", errors=[of_s3]), MemoryTransport(b"", errors=[of_portal]))

    with pytest.raises(expected, match="h: "):
        download(BOTH, final, sources)


def test_bytes_of_one_source_are_resumed_from_the_other(final: Path) -> None:
    """The checksum proves the whole, so halves from two sources make one file."""
    broken(final, asset=BOTH)
    denied = SourceUnavailableError("s3", "s3://bucket/a", "access denied")
    s3, geodes = MemoryTransport(CONTENT, errors=[denied]), MemoryTransport(CONTENT)

    result = download(BOTH, final, {"s3": s3, "geodes": geodes}, token="2")

    assert geodes.opened == [(HALF, None)]
    assert (result.outcome, final.read_bytes()) == (Outcome.RESUMED, CONTENT)


def test_a_file_that_no_source_in_use_has_is_named(final: Path) -> None:
    """Where only S3 has the file and S3 is not in use, the message says both."""
    only_s3 = asset_of(CONTENT, hrefs={"s3": "s3://bucket/a"})

    with pytest.raises(
        HrefRefusedError, match=r"no source in use has it \(it has: s3\)"
    ) as refused:
        fetch(final, MemoryTransport(CONTENT), only_s3)

    assert "AWS_SECRET_ACCESS_KEY" in refused.value.hint
    assert names(final) == []


def test_a_folder_is_no_file_that_has_a_checksum(final: Path) -> None:
    """The only address is a folder without the file: an error, and no folder is fetched."""
    with pytest.raises(FolderError, match="is a folder"):
        download(PROVEN, final, {"geodes": FolderTransport(FILES)})

    assert not final.exists()


def test_a_folder_at_one_of_two_sources_leaves_the_file_to_the_other(final: Path) -> None:
    """Without a checksum, too: the other source has one object."""
    sources: dict[str, Transport] = {
        "geodes": FolderTransport(FILES), "s3": MemoryTransport(CONTENT)
    }  # fmt: skip

    result = download(TWO, final, sources)

    assert result.source == "s3"
    assert final.read_bytes() == CONTENT


def test_bytes_without_a_validator_have_none(final: Path) -> None:
    """The validator of a source that broke is not kept beside the bytes of another one."""
    content, other = some_bytes(9 * MiB), some_bytes(9 * MiB, seed=1)
    hrefs = {"geodes": "https://portal.invalid/a", "s3": "s3://bucket/a"}
    unproven = asset_of(content, "a.tif", hrefs=hrefs, checksum=None)
    s3 = MemoryTransport(content, etag='"v1"', cuts=[HALF])
    geodes = MemoryTransport(other, etag=None, cuts=[8 * MiB])
    with pytest.raises(TruncatedBodyError, match="bytes announced"):
        download(unproven, final, {"s3": s3, "geodes": geodes}, token="1")

    download(unproven, final, {"s3": s3, "geodes": geodes}, token="2")

    assert s3.opened == [(0, None), (0, None)]
    assert final.read_bytes() == content


def test_a_folder_leaves_an_error_that_passes(final: Path) -> None:
    """The portal breaks and S3 has a folder: the portal is tried again, nothing is final."""
    geodes = MemoryTransport(b"", errors=[TransferError("h", "reset")])
    sources: dict[str, Transport] = {"geodes": geodes, "s3": FolderTransport(FILES)}

    with pytest.raises(TransferError, match="reset"):
        download(BOTH, final, sources)


def test_a_list_that_fails_leaves_the_file_to_the_other_source(final: Path) -> None:
    """S3 has a folder and answers 500 to its list: the portal has the file."""

    class Unlisted(FolderTransport):
        def members(self, href: str) -> list[Member]:
            raise ServerError(href, "HTTP 500")

    result = download(BOTH, final, {"s3": Unlisted(FILES), "geodes": MemoryTransport(CONTENT)})

    assert result.source == "geodes"


def test_folders_in_folders_have_an_end(final: Path) -> None:
    """An object of the list that is a folder again is not entered."""
    listed = list[str]()

    class Deeper(FolderTransport):
        def members(self, href: str) -> list[Member]:
            listed.append(href)
            return [Member(PROVEN.title, f"{href}/a", len(CONTENT))]

    with pytest.raises(FolderError, match="is a folder"):
        download(PROVEN, final, {"geodes": Deeper({})})

    assert len(listed) == 2
