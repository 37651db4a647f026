"""What the OpenAPI document says about handing in and following jobs."""

from __future__ import annotations

from typing import Any

from daemon.listeners import webhook_keys
from daemon.listeners.webhook_openapi import PROBLEM
from daemon.listeners.webhook_problems import MEDIA_TYPE
from daemon.web.stream import MEDIA_TYPE as EVENT_STREAM
from daemon.web.upload import MAX_FILES, OPTIONS
from tasks.payload import Payload

MAX_KEY = webhook_keys.MAX_KEY - 4
"""Characters of an Idempotency-Key: a batch appends the number of each file."""
_SEEN = r"!-~\xa1-\xac\xae-\xff"
"""Characters of a header that can be seen."""

_TEXT = {"type": "string"}
_URL = {"type": "string", "format": "uri-reference", "description": "Where the job can be looked at."}
_RECEIPT = {
    "type": "object",
    "required": ["job", "status"],
    "properties": {
        "job": {"type": "string", "description": "Id of the job."},
        "status": _URL,
        "duplicate": {"type": "boolean", "description": "This key and content came before; `job` is the first one's."},
    },
}
_ITEM = {
    "type": "object",
    "required": ["name", "code"],
    "properties": {
        "name": {"type": "string", "description": "The file's name."},
        "code": {"type": "integer", "description": "202: on disk. Else `problem` tells why not."},
        "job": _TEXT,
        "status": _URL,
        "duplicate": {"type": "boolean"},
        "problem": PROBLEM,
    },
}
_BATCH = {"type": "object", "required": ["jobs"], "properties": {"jobs": {"type": "array", "items": _ITEM}}}

_EVENT = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"enum": ["step", "progress", "end"]},
        "id": {"type": "string", "pattern": r"^[0-9]+(\.end)?$", "description": "For `Last-Event-ID`."},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
}
"""One server-sent event; before OpenAPI 3.2 the schema of a stream is that of its items."""

_SAID = {
    400: "The request cannot be read: no file, an unknown option, a broken form, an unusable key.",
    401: "A token is needed, or the one that was sent is unknown or revoked.",
    403: "The token's scopes do not reach that far.",
    404: "No such job.",
    405: "Not with this method.",
    408: "The body took too long.",
    409: "The job has not ended.",
    410: "The raw message is gone.",
    413: "The body is too large.",
    422: "A parameter is wrong; or the idempotency key came before with other content.",
    503: "The ledger does not answer; try again after Retry-After.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that answers these with problem details (RFC 9457)."""
    return {status: {"description": _SAID[status], "content": {MEDIA_TYPE: {"schema": PROBLEM}}} for status in statuses}


def without_token(document: dict[str, Any]) -> dict[str, Any]:
    """`document`, changed to say that a token may be left out (an empty security requirement)."""
    for operations in document["paths"].values():
        for operation in operations.values():
            if "security" in operation and {} not in operation["security"]:
                operation["security"].append({})
    return document


def _answer(description: str, schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


_WRITES = problems(400, 401, 403, 408, 413, 422, 503)
READS = problems(401, 403, 422, 503)
READS_ONE = problems(401, 403, 404, 422, 503)
SUBMITTED: dict[int | str, dict[str, Any]] = {
    200: {"model": Payload, "description": "The result, with `Prefer: wait=N`, when it was ready in time."},
    202: {
        **_answer("On disk. A repeat gets the first one's receipt.", _RECEIPT),
        "headers": {"Location": {"schema": _URL}},
    },
    **_WRITES,
}
BATCHED: dict[int | str, dict[str, Any]] = {
    202: _answer("Every file is on disk.", _BATCH),
    207: _answer("Some are, some are not: each has its own code.", _BATCH),
    **_WRITES,
}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: _answer("Events `step` (numbered), `progress` and at last `end`.", _EVENT, EVENT_STREAM),
    204: {"description": "`Last-Event-ID` was the end's: there is nothing more to tell."},
    **READS_ONE,
}
RESULT: dict[int | str, dict[str, Any]] = {
    200: {"model": Payload, "description": "The same document that webhooks carry."},
    **READS_ONE,
    **problems(409),
}

_SENT_AGAIN = {
    "type": "object",
    "required": ["dry_run", "deliveries", "jobs", "left"],
    "properties": {
        "dry_run": {"type": "boolean"},
        "deliveries": {"type": "integer", "description": "How many are sent again."},
        "jobs": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {"job": _TEXT, "deliveries": {"type": "array", "items": {"type": "integer"}}},
            },
        },
        "left": {
            "type": "array",
            "items": {"type": "object", "properties": {"job": _TEXT, "reason": _TEXT}},
            "description": "Jobs that cannot be now, and why.",
        },
    },
}
REDELIVERED: dict[int | str, dict[str, Any]] = {
    200: _answer("What is sent again, or would be, and what is left.", _SENT_AGAIN),
    **problems(401, 403, 408, 413, 422, 503),
    409: {**problems(409)[409], "description": "There is no such endpoint, or it is disabled."},
}


def body_of(schema: dict[str, Any]) -> dict[str, Any]:
    """What an operation says whose JSON body is read by hand, within a limit."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


_FILE = {"type": "string", "format": "binary", "minLength": 1}
_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": rf"^[ {_SEEN}]*[{_SEEN}][ {_SEEN}]*$", "maxLength": MAX_KEY},
    "description": "The program's own name for this request; a repeat is recognised by it. Default: the content.",
}
_PREFER = {
    "name": "Prefer",
    "in": "header",
    "required": False,
    "schema": {**_TEXT, "examples": ["wait=20"]},
    "description": "`wait=N`: answer with the result when it is ready within N seconds (RFC 7240); others are ignored.",
}


def _operation(*parameters: dict[str, Any], raw: bool) -> dict[str, Any]:
    options = {name: {**option.schema, "description": option.says} for name, option in OPTIONS.items()}
    form = {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "array", "items": _FILE, "minItems": 1, "maxItems": MAX_FILES}, **options},
        "additionalProperties": False,
    }
    content: dict[str, Any] = {"multipart/form-data": {"schema": form}}
    if raw:
        content["*/*"] = {"schema": _FILE}
    query = [
        {"name": name, "in": "query", "required": False, "schema": option.schema, "description": option.says}
        for name, option in OPTIONS.items()
    ]
    return {"parameters": [*parameters, *query], "requestBody": {"required": True, "content": content}}


SUBMIT = _operation(_KEY, _PREFER, raw=True)
BATCH = _operation(_KEY, raw=False)
METRICS: dict[int | str, dict[str, Any]] = {
    **READS,
    200: {
        "description": "OpenMetrics where `Accept` asks for it, else Prometheus' text format.",
        "content": {one: {"schema": _TEXT} for one in ("application/openmetrics-text", "text/plain")},
    },
}
