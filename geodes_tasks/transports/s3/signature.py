"""Signature of a GET request to S3: AWS Signature Version 4.

botocore signs too, but it takes half a second to load and 0.3 ms for each signature, as long as
half of everything else that an object of 1 MiB costs; this one takes 0.03 ms. The tests compare
the two.

Source: https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote

from geodes_tasks.settings.s3_credentials import Credentials

_NO_BODY = hashlib.sha256(b"").hexdigest()
_ALGORITHM = "AWS4-HMAC-SHA256"


def encoded_path(path: str) -> str:
    """Return a path percent-encoded as it is signed: all but A-Z, a-z, 0-9 and /-._~."""
    return quote(path, safe="/~")


def encoded_query(query: Mapping[str, str]) -> str:
    """Return a query in the order and the encoding in which it is signed."""
    return "&".join(f"{name}={quote(query[name], safe='~')}" for name in sorted(query))


def signed_headers(
    credentials: Credentials, region: str, host: str, path: str, query: str, now: datetime
) -> dict[str, str]:
    """Return the headers that authorise a GET request; Host, as given, is one of them.

    ``path`` and ``query`` are encoded as they are sent; ``now`` is aware, in UTC.
    """
    stamp = f"{now:%Y%m%dT%H%M%SZ}"
    # In alphabetical order, as the signature wants them.
    headers = {"Host": host, "X-Amz-Content-SHA256": _NO_BODY, "X-Amz-Date": stamp}
    if credentials.token:
        headers["X-Amz-Security-Token"] = credentials.token
    names = ";".join(headers).lower()
    lines = [f"{name.lower()}:{value}" for name, value in headers.items()]
    request = "\n".join(["GET", path, query, *lines, "", names, _NO_BODY])
    scope = [stamp[:8], region, "s3", "aws4_request"]
    key = f"AWS4{credentials.secret}".encode()
    for word in scope:
        key = hmac.digest(key, word.encode(), "sha256")
    digest = hashlib.sha256(request.encode()).hexdigest()
    text = "\n".join([_ALGORITHM, stamp, "/".join(scope), digest])
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    return headers | {
        "Authorization": f"{_ALGORITHM} Credential={credentials.access}/{'/'.join(scope)}, "
        f"SignedHeaders={names}, Signature={signature}"
    }
