"""Reads a folder of demo inputs: one sub-folder each, with what is sent and what should come of it.

A sub-folder holds `mail.toml` (with body.txt, body.html and attachments beside it), `request.toml` (with event.json)
or `file.toml`, and `expected.toml`. The payload is built once, so an input sent twice is equal to the byte.
"""

from __future__ import annotations

import mimetypes
import tomllib
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

P = TypeVar("P", bound="Part")


class InputError(Exception):
    """An input folder that cannot be used: which file, and what is wrong with it."""


class Part(BaseModel):
    """Base of the files in an input folder: immutable, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Mail(Part):
    """`mail.toml`: a mail and the way it is handed over."""

    by: Literal["smtp", "lmtp", "imap"]
    from_: str = Field(alias="from")
    to: str
    subject: str
    message_id: str
    date: str
    cc: str = ""
    attachments: tuple[str, ...] = ()
    headers: dict[str, str] = {}


class Request(Part):
    """`request.toml`: a webhook and how it is signed; its body is event.json."""

    by: Literal["webhook"]
    source: str
    scheme: Literal["standard", "github"]
    id: str
    headers: dict[str, str] = {}


class Drop(Part):
    """`file.toml`: a file that is put into the drop folder."""

    by: Literal["folder"]
    file: str


class Again(Part):
    """Any of the three with `same_as`: the other input's bytes are sent once more."""

    by: Literal["smtp", "lmtp", "webhook"]
    same_as: str


class Expected(Part):
    """`expected.toml`: what should have come of an input. What is left out is not checked."""

    label: str = ""
    fields: dict[str, str] = {}
    """Values as normalised: ISO 8601 dates, plain decimals with a point, currency codes."""
    read: tuple[str, ...] = ()
    """Names of documents that must have been read."""
    unreadable: tuple[str, ...] = ()
    """Names of documents that cannot be read, with the reason on record and named in the reply."""
    answered: bool | None = None
    because: str = ""
    """Words that must stand in the reason for giving no answer."""
    says: tuple[str, ...] = ()
    """Words that must stand in the reply's text."""
    mails: int | None = None
    """How many mails must have reached the outbox on account of this input."""
    webhooks: int | None = None
    """The same for the webhook sink."""
    duplicate_of: str = ""
    """Name of the input whose job this one must share."""
    state: str = "done"


@dataclass(frozen=True)
class Input:
    """One thing to send, ready to go."""

    name: str
    by: str
    delivery: Mail | Request | Drop
    expected: Expected
    payload: bytes

    @property
    def title(self) -> str:
        """What it is, for a person."""
        if isinstance(self.delivery, Mail):
            return self.delivery.subject
        return self.delivery.file if isinstance(self.delivery, Drop) else f"event {self.delivery.id}"


def read_inputs(folder: Path) -> tuple[Input, ...]:
    """Read every sub-folder of `folder`, in order of name. Raises InputError for the first one that is wrong."""
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder; name one with a sub-folder for each input")
    inputs: dict[str, Input] = {}
    for path in sorted(entry for entry in folder.iterdir() if entry.is_dir()):
        inputs[path.name] = _read(path, inputs)
    if not inputs:
        raise InputError(f"{folder} holds no input; make a sub-folder with mail.toml and expected.toml")
    return tuple(inputs.values())


def _read(folder: Path, earlier: dict[str, Input]) -> Input:
    expected = _parse(folder / "expected.toml", Expected)
    if expected.duplicate_of and expected.duplicate_of not in earlier:
        raise InputError(f"{folder / 'expected.toml'}: duplicate_of names no earlier input")
    kinds: dict[str, type[Mail] | type[Request] | type[Drop]] = {
        "mail.toml": Mail,
        "request.toml": Request,
        "file.toml": Drop,
    }
    for file, model in kinds.items():
        path = folder / file
        if not path.is_file():
            continue
        if "same_as" in _toml(path):
            again = _parse(path, Again)
            if again.same_as not in earlier:
                raise InputError(f"{path}: same_as names no earlier input")
            first = earlier[again.same_as]
            return Input(folder.name, again.by, first.delivery, expected, first.payload)
        delivery: Mail | Request | Drop = _parse(path, model)
        return Input(folder.name, delivery.by, delivery, expected, _payload(folder, delivery))
    raise InputError(f"{folder} holds none of mail.toml, request.toml and file.toml")


def _toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"{path}: {error}") from None


def _parse(path: Path, model: type[P]) -> P:
    try:
        return model.model_validate(_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _payload(folder: Path, delivery: Mail | Request | Drop) -> bytes:
    try:
        if isinstance(delivery, Mail):
            return _mail_bytes(folder, delivery)
        return (folder / ("event.json" if isinstance(delivery, Request) else delivery.file)).read_bytes()
    except OSError as error:
        raise InputError(f"{folder}: {error}") from None


def _mail_bytes(folder: Path, mail: Mail) -> bytes:
    message = EmailMessage(policy=SMTP)
    message["From"], message["To"] = mail.from_, mail.to
    if mail.cc:
        message["Cc"] = mail.cc
    message["Subject"], message["Date"], message["Message-ID"] = mail.subject, mail.date, mail.message_id
    for name, value in mail.headers.items():
        message[name] = value
    text, html = folder / "body.txt", folder / "body.html"
    if text.is_file():
        message.set_content(text.read_text("utf-8"))
    if html.is_file():
        add = message.add_alternative if text.is_file() else message.set_content
        add(html.read_text("utf-8"), subtype="html")
    for name in mail.attachments:
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        main, _, sub = kind.partition("/")
        message.add_attachment((folder / name).read_bytes(), maintype=main, subtype=sub, filename=name)
    for number, part in enumerate(message.walk()):
        if part.is_multipart():
            part.set_boundary(f"=_{folder.name}-{number}")
    return message.as_bytes()
