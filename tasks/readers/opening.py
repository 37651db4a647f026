"""Looking into a message again for a person: its parts, and pages as pictures. All of it in a child process."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import ValidationError

from tasks.readers.limits import Limits
from tasks.readers.mail import ParsedMail
from tasks.readers.sandbox.answers import no_answer
from tasks.readers.sandbox.client import SANDBOX, Result


def opened(raw: bytes) -> ParsedMail:
    """A mail's parts, their transfer encodings undone. Raises Unreadable, or Transient when no child can be had."""
    return mail_of(SANDBOX.call({"op": "mail"}, raw, Limits()))


def pictured(data: bytes, content_type: str, page: int, quotes: Sequence[str]) -> bytes:
    """A PNG of one page, with the words of `quotes` marked. Raises Unreadable, or Transient."""
    request = {"op": "picture", "as": content_type, "page": page, "quotes": list(quotes)}
    return SANDBOX.call(request, data, Limits()).blobs[0]


def mail_of(result: Result) -> ParsedMail:
    """What a child has answered to `mail`. Raises Unreadable when that is no mail."""
    header = result.header["mail"]
    parts = [{**part, "data": data} for part, data in zip(header["parts"], result.blobs, strict=True)]
    try:
        return ParsedMail.model_validate(header | {"parts": parts})
    except ValidationError as error:
        raise no_answer() from error
