"""Answers of an S3 server that hold no object."""

from __future__ import annotations

from io import BytesIO

import pytest
from urllib3 import HTTPResponse

from geodes_tasks.transports.s3.refusals import S3Refusal


def test_a_message_that_quotes_the_session_token() -> None:
    """The server received the token; logs, Redis and Flower do not."""
    text = (
        b"<Error><Code>Odd</Code><Message>no x-amz-security-token FwoG/x+y== here</Message></Error>"
    )
    answer = HTTPResponse(BytesIO(text), status=400, preload_content=False)

    error = S3Refusal.read(answer, ["FwoG/x+y=="]).error("s3://b/k")

    assert "no x-amz-security-token *** here" in str(error)


@pytest.mark.parametrize("secret", ["FwoGx-y_z0123", "wJalrXUtnFEMI/K7MDENG+bPx", "0a1b2c3d" * 8])
@pytest.mark.parametrize("where", ["Code", "Message", "Region", "header", "Location", "escaped"])
def test_no_field_passes_a_secret_on(secret: str, where: str) -> None:
    """Token, secret key and signature: in the code, the message, the region or a redirect."""
    values = {"Code": "Odd", "Message": "no", "Region": "x"} | {where: f"it was {secret}"}
    if where in {"Code", "Region"}:
        values[where] = secret
    if where == "escaped":
        values["Message"] = secret.replace("/", "&#47;").replace("+", "&#x2b;")
    text = "".join(f"<{name}>{values[name]}</{name}>" for name in ("Code", "Message", "Region"))
    headers = {}
    if where == "header":
        headers = {"x-amz-bucket-region": secret}
    elif where == "Location":
        headers = {"Location": f"https://elsewhere.example/{secret}"}
    body = f"<Error>{text}</Error>".encode()
    answer = HTTPResponse(BytesIO(body), headers, status=400, preload_content=False)

    refusal = S3Refusal.read(answer, [None, "short", secret])

    assert secret not in str(refusal.error("s3://b/k"))
    assert secret not in repr(refusal)
