"""Answers of an S3 server that hold no object."""

from __future__ import annotations

from io import BytesIO

from urllib3 import HTTPResponse

from geodes_tasks.transports.s3.refusals import S3Refusal


def test_a_message_that_quotes_the_session_token() -> None:
    """The server received the token; logs, Redis and Flower do not."""
    text = (
        b"<Error><Code>Odd</Code><Message>no x-amz-security-token FwoG/x+y== here</Message></Error>"
    )
    answer = HTTPResponse(BytesIO(text), status=400, preload_content=False)

    error = S3Refusal.read(answer, "FwoG/x+y==").error("s3://b/k")

    assert "no x-amz-security-token *** here" in str(error)
