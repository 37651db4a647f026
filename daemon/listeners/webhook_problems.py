"""What a webhook's sender is told when a request is refused: problem details (RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER = 10


class Refused(Exception):
    """A request that gets `status`; `code` names the kind of problem, `detail` tells this one."""

    def __init__(
        self, status: HTTPStatus, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: object
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})
        self.more = more

    def response(self) -> Response:
        """The answer; `more` are extension members (RFC 9457 section 3.2)."""
        problem = {
            "type": f"urn:postroom:problem:{self.code}",
            "title": self.status.phrase,
            "status": self.status.value,
            "detail": self.detail,
            **self.more,
        }
        return Response(json.dumps(problem), self.status.value, self.headers, MEDIA_TYPE)


def bad_parameters(errors: Iterable[Mapping[str, Any]]) -> Refused:
    """422: what pydantic found wrong, each with its place."""
    said = [f"{'.'.join(map(str, one['loc'])) or 'body'}: {one['msg']}" for one in errors]
    return Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "bad-parameter", "; ".join(said)[:1000])


def not_stored(retry_after: float | None) -> Refused:
    """503: it could not be made durable. `retry_after` is in seconds; None: 10."""
    wait = {"Retry-After": str(max(1, round(retry_after or _RETRY_AFTER)))}
    said = "the request could not be stored; send it again"
    return Refused(HTTPStatus.SERVICE_UNAVAILABLE, "not-stored", said, wait)
