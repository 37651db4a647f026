"""Settings of the store for large messages and fetched files."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from config.inbound import Section

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class BlobSettings(Section):
    """Where raw messages above `inline_limit` and fetched files are kept; without `url` in state_dir/blobs."""

    url: str = Field(
        "", description="s3://BUCKET or s3://BUCKET/PREFIX: an S3-compatible store. The bucket must exist."
    )
    endpoint: str = Field("", description="Address of the store; empty: Amazon's for the region.")
    region: str = Field("us-east-1", description="Region that requests are signed for.")
    access_key: str = Field(
        "", description="Access key; empty: AWS_ACCESS_KEY_ID and its like, or the machine's own role."
    )
    secret_key: SecretStr = Field(SecretStr(""), description="Better as systemd credential than in the file.")
    virtual_host: bool = Field(False, description="The bucket stands in the host name instead of the path.")
    connect_timeout: float = Field(3, gt=0, description="Seconds to connect.")
    timeout: float = Field(30, gt=0, description="Seconds for one request.")

    @field_validator("url")
    @classmethod
    def _is_s3(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment):
            raise ValueError(f"{value!r} names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX")
        return value.rstrip("/")

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        parts = urlsplit(value)
        if value and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.username):
            raise ValueError(f"{value!r} is no address of a store; write https://host or https://host:port")
        return value.rstrip("/")

    @model_validator(mode="after")
    def _whole(self) -> BlobSettings:
        if bool(self.access_key) != bool(self.secret_key.get_secret_value()):
            raise ValueError("access_key and secret_key go together; write both, or none")
        return self

    def bucket(self) -> tuple[str, str]:
        """Bucket and prefix that `url` names."""
        parts = urlsplit(self.url)
        return parts.netloc, parts.path.strip("/")
