"""Addresses of S3 objects."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote, unquote, urlsplit

from geodes_tasks.errors import SourceUnavailableError
from geodes_tasks.transports.http.addresses import origin, redact


@dataclass(frozen=True, slots=True)
class Address:
    """Address of an object."""

    endpoint: str | None
    """Scheme and host; None when the href names a bucket only (``s3://``)."""
    bucket: str
    key: str
    """Key within it, as S3 knows it."""

    @classmethod
    def parse(cls, href: str) -> Address:
        """Parse ``https://host/bucket/key`` (percent-encoded) or ``s3://bucket/key`` (not).

        Raises:
            SourceUnavailableError: neither, or no key.
        """
        endpoint, path = None, href.removeprefix("s3://")
        if path == href:
            try:
                scheme, _, _ = origin(href)
                parts = urlsplit(href)
            except ValueError:
                path = ""
            else:
                endpoint = f"{scheme}://{parts.netloc}"
                path = unquote(parts.path).lstrip("/") if scheme in {"http", "https"} else ""
        bucket, _, key = path.partition("/")
        if not bucket or not key.strip("/"):
            raise SourceUnavailableError("s3", redact(href), "this is no address of an S3 object")
        return cls(endpoint, bucket, key)

    @property
    def prefix(self) -> str:
        """Return the prefix of the keys in a folder."""
        return self.key.rstrip("/") + "/"

    def below(self, key: str) -> str:
        """Return the href of another key in the same bucket."""
        if self.endpoint is None:
            return f"s3://{self.bucket}/{key}"
        return f"{self.endpoint}/{self.bucket}/{quote(key)}"
