"""What a message holds, as it came: HTML made harmless in a frame of its own, attachments to save, pages as pictures."""

from __future__ import annotations

import hashlib
import threading
from http import HTTPStatus

import nh3
from starlette.responses import HTMLResponse, Response

from daemon.web.pages.ask import Ask, Stop
from daemon.web.pages.job import PICTURED, download, found
from daemon.web.pages.site import Site
from tasks.errors import Unreadable
from tasks.intake import raw_of
from tasks.ledger import Ledger
from tasks.models import Classification, Document, Job, Kind, Stage
from tasks.readers.charset import decode
from tasks.readers.mail import Part
from tasks.readers.opening import opened, pictured
from tasks.readers.web import too_deep
from tasks.stores import Store

MOST_HTML = 1_000_000
"""Characters of HTML that are shown."""
DEEPEST = 1_000
"""Elements within elements that are shown."""
AT_ONCE = 2
"""Children at a time that this process has for looking into messages."""
FRAME = {
    "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "Referrer-Policy": "no-referrer",
}
"""Of mail's HTML: no script, no style, nothing loaded from anywhere, an origin of its own."""
TAGS = frozenset({
    "p", "br", "hr", "div", "span", "b", "strong", "i", "em", "u", "s", "sub", "sup", "small", "blockquote", "pre", "code",
    "ul", "ol", "li", "dl", "dt", "dd", "table", "caption", "thead", "tbody", "tfoot", "tr", "th", "td", "h1", "h2", "h3",
    "h4", "h5", "h6", "center", "font",
})  # fmt: skip
"""What stays. No links: nobody has to wonder where one leads; no pictures: they would tell that the mail was read."""
_CELLS = frozenset({"colspan", "rowspan", "align"})


def install(site: Site, ledger: Ledger, store: Store) -> None:
    """The routes."""
    looking = _Looking(ledger, store)

    def html(ask: Ask) -> Response:
        job = found(ledger, ask)
        return HTMLResponse(harmless(looking.html(job)), headers=FRAME)

    def saved(ask: Ask) -> Response:
        job = found(ledger, ask)
        document = looking.document(job, ask)
        return download(looking.bytes_of(job, document), document.name)

    def page(ask: Ask) -> Response:
        job = found(ledger, ask)
        document = looking.document(job, ask)
        if document.content_type not in PICTURED:
            raise Stop(HTTPStatus.NOT_FOUND, "No picture", "Only pages of PDFs and pictures can be shown.")
        number = ask.path("page")
        wanted = int(number) if number.isdecimal() and len(number) < 6 else 0
        data = looking.picture(job, document, wanted)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})

    site.get("/jobs/{job}/html", html)
    site.get("/jobs/{job}/documents/{document}", saved)
    site.get("/jobs/{job}/documents/{document}/{page}.png", page)


def harmless(html: str) -> str:
    """HTML of a stranger with nothing in it that runs, loads or leads anywhere."""
    html = html[:MOST_HTML]
    if too_deep(
        html.encode("utf-8", "replace"), DEEPEST
    ):  # cleaning takes time that grows with the square of the depth
        html = (
            f"<p>This HTML is nested over {DEEPEST} deep and is not shown. The job's page has what was read of it.</p>"
        )
    clean = nh3.clean(
        html,
        tags=set(TAGS),
        attributes={"td": set(_CELLS), "th": set(_CELLS)},
        clean_content_tags={"script", "style", "title", "textarea", "noscript", "template", "svg", "math", "iframe"},
        link_rel=None,
        url_schemes=set(),
    )
    head = '<meta charset="utf-8"><meta name="color-scheme" content="light"><title>Mail</title>'
    return f'<!doctype html><html lang="und"><head>{head}</head><body>{clean}</body></html>'


class _Looking:
    """Gets at the bytes of a job's documents, which the ledger does not keep apart from the message."""

    def __init__(self, ledger: Ledger, blobs: Store) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def document(self, job: Job, ask: Ask) -> Document:
        """The document in the path. Raises Stop 404."""
        number = ask.path("document")
        for document in self._ledger.jobs.documents(job.id) if number.isdecimal() else ():
            if document.ordinal == int(number[:9]):
                return document
        raise Stop(HTTPStatus.NOT_FOUND, "No such document", "The message holds no document of this number.")

    def html(self, job: Job) -> str:
        """The HTML of a mail's body. Raises Stop 404 when it has none."""
        if job.kind is Kind.MAIL:
            for part in self._parts(job):
                if part.is_body and part.content_type == "text/html":
                    return decode(part.data, part.charset)[0]
        raise Stop(HTTPStatus.NOT_FOUND, "No HTML", "This message has no HTML.")

    def bytes_of(self, job: Job, document: Document) -> bytes:
        """A document as it came. Raises Stop 404 for what can only be had with what it was packed in."""
        raw = raw_of(self._ledger, self._blobs, job.id, job.raw_sha256)
        if document.sha256 == job.raw_sha256:
            return raw
        if job.kind is Kind.MAIL and not document.parent:
            for part in self._parts(job):
                if hashlib.sha256(part.data).hexdigest() == document.sha256:
                    return part.data
        fetched = (self._ledger.jobs.result(job.id, Stage.FETCH) or {}).get("files", ())
        if document.sha256 in {one["sha256"] for one in fetched}:
            return self._blobs.get(document.sha256)
        said = "It cannot be had on its own. Download the whole message; it is in there."
        raise Stop(HTTPStatus.NOT_FOUND, "Only with the message", said)

    def picture(self, job: Job, document: Document, page: int) -> bytes:
        """A page with the evidence on it marked. Raises Stop 404 for what cannot be shown."""
        value = self._ledger.jobs.result(job.id, Stage.CLASSIFY)
        fields = Classification(**value).fields if value else ()
        here = [one.quote for one in fields if one.supported and (one.document, one.page) == (document.ordinal, page)]
        data = self.bytes_of(job, document)
        try:
            with self._room:
                return pictured(data, document.content_type, page, list(dict.fromkeys(here)))
        except Unreadable as error:
            raise Stop(HTTPStatus.NOT_FOUND, "No picture", f"It cannot be shown: {error.reason}.") from None

    def _parts(self, job: Job) -> tuple[Part, ...]:
        raw = raw_of(self._ledger, self._blobs, job.id, job.raw_sha256)
        try:
            with self._room:
                return opened(raw).parts
        except Unreadable as error:
            raise Stop(
                HTTPStatus.NOT_FOUND, "Cannot be opened", f"The mail cannot be opened: {error.reason}."
            ) from None
