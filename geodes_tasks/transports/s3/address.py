"""Where an S3 object is."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from geodes_tasks.errors import SourceUnavailableError
from geodes_tasks.transports.http.addresses import origin, redact

_SCHEMES = {"http", "https"}


@dataclass(frozen=True, slots=True)
class Address:
    """Where an object is."""

    endpoint: str | None
    """Scheme and host; None when the href names a bucket only (``s3://``)."""
    bucket: str
    """Name of the bucket."""
    key: str
    """Key within it, as S3 knows it."""

    @classmethod
    def parse(cls, href: str) -> Address:
        """Read ``https://host/bucket/key`` (percent-encoded) or ``s3://bucket/key`` (not).

        Raises:
            SourceUnavailableError: neither, or no key.
        """
        try:
            parts = urlsplit(href)
            if parts.scheme in _SCHEMES:
                origin(href)
        except ValueError as error:
            raise SourceUnavailableError("s3", redact(href), "no S3 address") from error
        if parts.scheme == "s3":
            endpoint, bucket, key = None, parts.netloc, href.partition("://")[2].partition("/")[2]
        else:
            endpoint = f"{parts.scheme}://{parts.netloc}"
            bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if parts.scheme not in _SCHEMES | {"s3"} or not bucket or not key.strip("/"):
            raise SourceUnavailableError("s3", redact(href), "no address of an S3 object")
        return cls(endpoint, bucket, key)

    @property
    def prefix(self) -> str:
        """Prefix of the keys in a folder."""
        return self.key.rstrip("/") + "/"

    def below(self, key: str) -> str:
        """Return the href of another key in the same bucket."""
        if self.endpoint is None:
            return f"s3://{self.bucket}/{key}"
        return f"{self.endpoint}/{self.bucket}/{quote(key)}"
