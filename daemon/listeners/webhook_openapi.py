"""What the OpenAPI document says about POST /hooks/{source}."""

from __future__ import annotations

from typing import Any

from daemon.listeners.webhook_problems import MEDIA_TYPE

_TEXT = {"type": "string"}
_JOB = {"type": "string", "description": "Id of the job."}
_STATUS_URL = {"type": "string", "format": "uri-reference", "description": "Where the job can be looked at."}

_ACCEPTED = {
    "type": "object",
    "required": ["job", "status"],
    "properties": {
        "job": _JOB,
        "status": _STATUS_URL,
        "duplicate": {"type": "boolean", "description": "This key and body came before; `job` is the first one's."},
    },
}

PROBLEM = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": _TEXT,
        "status": {"type": "integer"},
        "detail": _TEXT,
    },
}
"""Problem details (RFC 9457 section 3.1)."""

_PROBLEMS = {
    400: "No idempotency key where the source requires one.",
    401: "The request does not prove who sent it.",
    403: "The address may not post here.",
    404: "No source of this name.",
    408: "The body took too long.",
    413: "The body is too large.",
    422: "The idempotency key came before with another body.",
    429: "More requests than the source may send; see Retry-After.",
    503: "Not stored; send it again after Retry-After.",
}

RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The result, when `Prefer: wait=N` was given and it was ready in time; or Slack's challenge.",
        "content": {"application/json": {"schema": {"type": "object"}}, "text/plain": {"schema": _TEXT}},
    },
    202: {
        "description": "On disk. A repeat gets the first one's receipt.",
        "headers": {"Location": {"schema": _STATUS_URL}},
        "content": {"application/json": {"schema": _ACCEPTED}},
    },
    **{
        status: {"description": said, "content": {MEDIA_TYPE: {"schema": PROBLEM}}}
        for status, said in _PROBLEMS.items()
    },
}

_ANY_BODY = {"schema": {"type": "string", "format": "binary"}}

OPERATION: dict[str, Any] = {
    "parameters": [
        {
            "name": "source",
            "in": "path",
            "required": True,
            "schema": _TEXT,
            "description": "Name of a [webhook.NAME] section.",
        },
        {
            "name": "Prefer",
            "in": "header",
            "required": False,
            "schema": {**_TEXT, "examples": ["wait=20"]},
            "description": "`wait=N`: answer with the result when it is ready within N seconds (RFC 7240).",
        },
    ],
    "requestBody": {
        "required": False,
        "description": "Any body with its content type: JSON, form, multipart, raw. It is stored as it came.",
        "content": {"application/json": {"schema": {}}, "*/*": _ANY_BODY},
    },
}
