"""POST /jobs and /jobs/batch: people's own programs hand in files."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import JSONResponse, Response

from config.settings import Settings
from daemon.listeners.webhook import Door
from daemon.listeners.webhook_keys import KeyFinder, NoKey
from daemon.listeners.webhook_limits import read_body
from daemon.listeners.webhook_problems import Refused, not_stored
from daemon.web import openapi
from daemon.web.auth import BEARER, Guard
from daemon.web.results import Finished, Waiting, own_url
from daemon.web.upload import Upload, read
from tasks.errors import Unavailable
from tasks.ledger import Scope
from tasks.models import Envelope, Receipt

BODY_SECONDS = 120.0
"""In which a request's body has to arrive."""

_KEY = "idempotency-key"


def router(settings: Settings, intake: Door, guard: Guard, finished: Finished) -> APIRouter:
    """The routes, over `intake`."""
    submits = _Submits(settings, intake, finished)
    routes = APIRouter(tags=["jobs"], dependencies=[Depends(BEARER), Depends(guard.needs(Scope.SUBMIT))])
    routes.add_api_route(
        "/jobs",
        submits.one,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        summary="Hand in a job",
        description="One file, or several that belong together, as a form or as a raw body; answers when it is on disk.",
        responses=openapi.SUBMITTED,
        openapi_extra=openapi.SUBMIT,
    )
    routes.add_api_route(
        "/jobs/batch",
        submits.batch,
        methods=["POST"],
        status_code=HTTPStatus.ACCEPTED,
        summary="Hand in many jobs",
        description="Each file of the form is a job of its own; the answer tells each one's receipt.",
        responses=openapi.BATCHED,
        openapi_extra=openapi.BATCH,
    )
    return routes


class _Submits:
    def __init__(self, settings: Settings, intake: Door, finished: Finished) -> None:
        self._intake = intake
        self._limit = settings.web.max_body
        self._public_url = settings.web.public_url
        self._waiting = Waiting(finished)
        self._keys = KeyFinder((f"header:{_KEY}",))

    async def one(self, request: Request) -> Response:
        key = self._key(request)
        upload = await self._upload(request)
        envelope, raw = await asyncio.to_thread(upload.envelope, key)
        told = self._told(await self._accept(envelope, raw), request)
        answer = {"Location": told["status"]}
        result = await self._waiting.result(told["job"], request.headers.get("prefer", ""), answer)
        if result is not None:
            return JSONResponse(result, HTTPStatus.OK, answer)
        return JSONResponse(told, HTTPStatus.ACCEPTED, answer)

    async def batch(self, request: Request) -> Response:
        key = self._key(request)
        upload = await self._upload(request)
        items = await asyncio.gather(*(self._item(upload, number, key, request) for number in range(len(upload.files))))
        codes = {item["code"] for item in items}
        if codes == {HTTPStatus.SERVICE_UNAVAILABLE}:
            raise not_stored(None)
        status = HTTPStatus.ACCEPTED if codes == {HTTPStatus.ACCEPTED} else HTTPStatus.MULTI_STATUS
        return JSONResponse({"jobs": items}, status)

    async def _item(self, upload: Upload, number: int, key: str, request: Request) -> dict[str, Any]:
        file = upload.files[number]
        envelope, raw = await asyncio.to_thread(upload.envelope_of, file, f"{key}/{number}" if key else "")
        try:
            told = self._told(await self._accept(envelope, raw), request)
        except Refused as refused:
            problem = json.loads(bytes(refused.response().body))
            return {"name": file.name, "code": refused.status.value, "problem": problem}
        return {"name": file.name, "code": HTTPStatus.ACCEPTED.value, **told}

    async def _upload(self, request: Request) -> Upload:
        headers = request.headers
        body = await read_body(request.receive, headers, self._limit, BODY_SECONDS)
        query = dict(request.query_params)
        return (await asyncio.to_thread(read, headers.get("content-type", ""), query, body)).checked()

    def _key(self, request: Request) -> str:
        if _KEY not in request.headers:
            return ""
        try:
            key = self._keys.find(request.headers, b"")
        except NoKey as error:
            raise Refused(HTTPStatus.BAD_REQUEST, "no-key", str(error)) from None
        if len(key) > openapi.MAX_KEY:
            raise Refused(HTTPStatus.BAD_REQUEST, "no-key", f"the key is longer than {openapi.MAX_KEY} characters")
        return key

    async def _accept(self, envelope: Envelope, raw: bytes) -> Receipt:
        try:
            receipt = await self._intake.accept_async(envelope, raw)
        except Unavailable as error:
            raise not_stored(error.retry_after) from error
        if receipt.conflict:
            said = "this idempotency key came before with other content"
            raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, "key-reused", said, job=receipt.job_id)
        return receipt

    def _told(self, receipt: Receipt, request: Request) -> dict[str, Any]:
        told = {"job": receipt.job_id, "status": f"{own_url(self._public_url, request.scope)}/jobs/{receipt.job_id}"}
        return {**told, "duplicate": True} if receipt.duplicate else told
