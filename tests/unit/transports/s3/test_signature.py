"""Signatures of S3 requests, beside those of botocore."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as OfBotocore
from botocore.credentials import ReadOnlyCredentials

from geodes_tasks.settings.s3_credentials import Credentials
from geodes_tasks.transports.s3.signature import encoded_path, encoded_query, signed_headers

HOST = "s3.datalake.cnes.fr:9000"


def of_botocore(path: str, query: dict[str, str], token: str | None, region: str) -> dict[str, str]:
    """Return the headers that botocore adds, now."""
    url = f"https://{HOST}{path}" + (f"?{encoded_query(query)}" if query else "")
    request = AWSRequest(method="GET", url=url, headers={"Host": HOST})
    keys: ReadOnlyCredentials = OfBotocore("key-id", "a secret/+=", token).get_frozen_credentials()
    S3SigV4Auth(keys, "s3", region).add_auth(request)
    return dict(request.headers.items())


@pytest.mark.parametrize("token", [None, "a/token+=="])
@pytest.mark.parametrize("query", [{}, {"list-type": "2", "prefix": "a b/ü+&=~", "max-keys": "1"}])
@pytest.mark.parametrize("key", ["14/U/a.zip", "a b/ü+&~.zip", "a//b=c?.zip", "%41;@:,(1)*'!.zip"])
def test_signatures_are_those_of_botocore(
    key: str, query: dict[str, str], token: str | None
) -> None:
    """Any key, query and token gives the signature that Amazon's own library computes."""
    path = encoded_path(f"/bucket/{key}")
    theirs = of_botocore(path, query, token, "eu-west-3")
    now = datetime.strptime(theirs["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)

    ours = signed_headers(
        Credentials("key-id", "a secret/+=", token),
        "eu-west-3", HOST, path, encoded_query(query), now,
    )  # fmt: skip

    assert ours == theirs


def test_a_query_is_sorted_and_encoded() -> None:
    """The query that is sent is the one that is signed: no plus for a space."""
    assert encoded_query({"prefix": "a b", "list-type": "2"}) == "list-type=2&prefix=a%20b"
