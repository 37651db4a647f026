"""What schemathesis cannot know from the OpenAPI document. It is named by schemathesis.toml and loaded by its process."""

from __future__ import annotations

import hashlib
import time
import zlib
from typing import Any

import requests
import schemathesis

from tasks.signatures import sign_standard
from tests.integration.webhook_in_parts import SECRET


def signed(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Sign the bytes that are sent, as the sender behind the source `shop` would."""
    body = request.body or b""
    body = body.encode() if isinstance(body, str) else body
    request.headers.update(sign_standard(body, [SECRET], hashlib.sha256(body).hexdigest(), int(time.time())))
    return request


@schemathesis.hook
def before_load_schema(_context: Any, raw_schema: dict[str, Any]) -> None:
    """Of any type that a raw body may have two stand for all: of others schemathesis makes empty forms and texts."""
    for operations in raw_schema["paths"].values():
        content = operations.get("post", {}).get("requestBody", {}).get("content", {})
        if raw := content.pop("*/*", None):
            content |= {"application/octet-stream": raw, "message/rfc822": raw}


@schemathesis.hook.apply_to(path="/hooks/{source}")
def map_path_parameters(_context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Two of three names that are thought of are the source that there is."""
    known = zlib.crc32(str(path_parameters.get("source")).encode("utf-8", "replace")) % 3
    return {**path_parameters, "source": "shop"} if known else path_parameters


@schemathesis.hook.apply_to(path="/hooks/{source}")
def before_call(_context: Any, _case: Any, kwargs: dict[str, Any]) -> None:
    """Sign."""
    kwargs["auth"] = signed


@schemathesis.hook
def filter_failure(_context: Any, _failure: Any, _case: Any, response: Any) -> bool:
    """A key that is thought of twice, with two contents, is refused as it should be."""
    return b"urn:postroom:problem:key-reused" not in response.content
