"""The routes as they are, with what matched lately, and trying one out: nothing is stored and nothing is sent."""

from __future__ import annotations

import tempfile
import threading
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

from config.routes import Route
from config.settings import Settings
from daemon.web.pages.ask import Ask, Stop
from daemon.web.pages.evidence import pages_of
from daemon.web.pages.kept import Kept
from daemon.web.pages.routing import Routing
from daemon.web.pages.site import Site
from tasks.clock import now_ms
from tasks.errors import Permanent
from tasks.ledger import Ledger
from tasks.models import Delivery
from tasks.readers.names import clean_name

if TYPE_CHECKING:
    from daemon.tryout import Trip

WEEK_MS = 7 * 86_400_000
BODY_SHOWN = 20_000
AT_ONCE = 1
"""Try-outs at a time: each asks the model, which has real work to do."""


def install(site: Site, settings: Settings, ledger: Ledger, routing: Routing) -> None:
    """The routes' routes."""
    lately = Kept(lambda: ledger.figures.routes(now_ms() - WEEK_MS), 30.0)
    room = threading.BoundedSemaphore(AT_ONCE)

    def shown(ask: Ask) -> Response:
        told = [_told(route, lately().get(route.name, (0, None))) for route in routing.all()]
        return site.frame.page(ask, "routes", routes=told)

    def form(ask: Ask) -> Response:
        return site.frame.page(ask, "try", trip=None, sources=_sources(settings))

    def tried(ask: Ask) -> Response:
        upload = ask.file("file")
        if upload is None:
            raise Stop(
                HTTPStatus.BAD_REQUEST, "No file", "Choose a mail (.eml), an event (.json) or any document first."
            )
        source = ask.sent("source", 80) if ask.sent("source", 80) in _sources(settings) else "try"
        if not room.acquire(blocking=False):
            said = "Somebody else tries something out just now. Try again in a minute."
            raise Stop(HTTPStatus.SERVICE_UNAVAILABLE, "One moment", said, {"Retry-After": "30"})
        try:
            made = _trip(settings, clean_name(upload.filename or "") or "file", upload.file.read(), source)
        finally:
            room.release()
        ledger.visitors.note(ask.visitor.who, ask.address, "tried out", bytes=made.job.raw_size)
        shares = sorted(made.classification.alternatives.items(), key=lambda one: -one[1])
        return site.frame.page(
            ask,
            "try",
            trip=made,
            sources=_sources(settings),
            others=[(label, share) for label, share in shares if label != made.classification.label and share >= 0.005][
                :4
            ],
            documents=[(one, pages_of(one, made.classification.fields)) for one in made.extracted.documents],
            deliveries=[(one, _body(one)) for one in made.reply.deliveries],
        )

    site.get("/routes", shown)
    site.get("/try", form, "reviewer")
    site.post("/try", tried, "reviewer", settings.web.max_body)


def _trip(settings: Settings, name: str, data: bytes, source: str) -> Trip:
    """The file's trip; it lies in a folder of its own meanwhile, under its own name. Raises Permanent, Unavailable."""
    from daemon.tryout import run  # noqa: PLC0415  # readers and model, which no other page needs

    if not data:
        raise Permanent(f"{name} is empty")
    with tempfile.TemporaryDirectory(prefix="postroom-try-") as folder:
        path = Path(folder) / name[-200:]
        path.write_bytes(data)
        return run(settings, path, source)


def _told(route: Route, lately: tuple[int, int | None]) -> dict[str, Any]:
    match = {name: value for name, value in route.match.model_dump().items() if value}
    return {"route": route, "match": match, "number": lately[0], "last": lately[1], "event": route.event is not None}


def _body(delivery: Delivery) -> str:
    return delivery.body[: 4 * BODY_SHOWN].decode("utf-8", "replace")[:BODY_SHOWN]


def _sources(settings: Settings) -> list[str]:
    return [
        "try",
        "smtp",
        *(f"imap:{name}" for name in settings.imap),
        *(f"webhook:{name}" for name in settings.webhook),
    ]
