"""What a program hands in: files with options, as a form (RFC 7578) or as one raw body."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import quote

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from daemon.listeners.webhook_problems import Refused
from tasks.mailhead import sender_of
from tasks.models import Envelope, Kind

if TYPE_CHECKING:  # a name that exists for type checkers only
    from python_multipart.multipart import MultipartCallbacks

MAX_FILES = 100
MAX_FIELDS = 20
MAX_FIELD = 2_000
"""Bytes of an option."""
MAX_PART_HEADER = 8_192
MAX_PART_HEADERS = 20
_FORM = "multipart/form-data"
_MAIL, _JSON = "message/rfc822", "application/json"
_MAX_NAME = 200
_NOT_IN_ADDRESS = r"\s<>@,;\x00-\x1f\x7f-\x9f\xad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
"""Separators, and what cannot be seen."""


@dataclass(frozen=True)
class Option:
    """What a program may say beside the files, in a form field or in the query. Empty is as good as not said."""

    says: str
    pattern: str
    """What the whole value has to be, in words that Python's `re` and ECMA-262 read alike; empty: anything."""
    wanted: str

    @property
    def schema(self) -> dict[str, str]:
        """For the OpenAPI document."""
        return {"type": "string", "pattern": self.pattern} if self.pattern else {"type": "string"}

    def takes(self, value: str) -> bool:
        """Whether `value` may be given."""
        return not self.pattern or re.fullmatch(self.pattern, value) is not None


OPTIONS = {
    "sender": Option(
        "Address that the reply goes to; of a mail: default is what stands in its header.",
        rf"^([^{_NOT_IN_ADDRESS}]{{1,64}}@[^*{_NOT_IN_ADDRESS}]{{1,255}})?$",
        "a mail address; write name@domain",
    ),
    "source": Option(
        "Name of the program, for routes and lists: the job's source is then `api:NAME`.",
        r"^([a-z0-9][a-z0-9._-]{0,39})?$",
        "1 to 40 lower-case letters, digits, dots, hyphens and underscores",
    ),
    "name": Option("File name, for a raw body; what is no part of a file name is left out.", "", "a file name"),
}


@dataclass
class File:
    """One file as it was sent."""

    name: str
    content_type: str
    data: bytes

    @property
    def kind(self) -> Kind:
        """By what was claimed or by its name: a mail, an event, else a file (as `postroom submit` does)."""
        claimed, name = essence(self.content_type), self.name.lower()
        if claimed == _MAIL or name.endswith(".eml"):
            return Kind.MAIL
        return Kind.EVENT if claimed == _JSON or name.endswith(".json") else Kind.FILE


@dataclass
class Upload:
    """The files of one request, and the options in it."""

    files: list[File] = field(default_factory=list)
    options: dict[str, str] = field(default_factory=dict)

    def set(self, options: Mapping[str, str]) -> None:
        """Take options over, before earlier ones. Raises Refused 400 for one that is unknown or wrong."""
        for name, value in options.items():
            if name not in OPTIONS:
                raise _bad("bad-option", f"no option {name[:40]!r}; known: {', '.join(OPTIONS)}")
            if not OPTIONS[name].takes(value):
                raise _bad("bad-option", f"{name} is not {OPTIONS[name].wanted}")
            self.options[name] = value

    def checked(self) -> Upload:
        """Itself. Raises Refused 400 for no file and for an empty one."""
        if not self.files:
            raise _bad("no-file", "the request holds no file")
        for number, file in enumerate(self.files, start=1):
            if not file.data:
                raise _bad("empty-file", f"file {number} is empty")
        return self

    def envelope(self, key: str) -> tuple[Envelope, bytes]:
        """The one job that all files make, and its raw message.

        Several files stay what they came as, a form: the extract stage reads each file in it as a document.
        """
        if len(self.files) == 1:
            return self.envelope_of(self.files[0], key)
        content_type, raw = packed(self.files)
        name = f"{self.files[0].name or 'file'} and {len(self.files) - 1} more"
        return self._envelope(File(name, content_type, raw), Kind.FILE, key, self.files), raw

    def envelope_of(self, file: File, key: str) -> tuple[Envelope, bytes]:
        """The job that `file` makes by itself. An empty `key` means: the content is the key."""
        return self._envelope(file, file.kind, key, [file]), file.data

    def _envelope(self, file: File, kind: Kind, key: str, content: list[File]) -> Envelope:
        source = self.options.get("source", "")
        sender = self.options.get("sender", "") or (sender_of(file.data) if kind is Kind.MAIL else "")
        return Envelope(
            source=f"api:{source}" if source else "api",
            kind=kind,
            key=key or f"sha256:{_digest([sender.encode(), *(part for one in content for part in _parts(one))])}",
            sender=sender,
            content_type=_MAIL if kind is Kind.MAIL else file.content_type,
            name=file.name,
        )


def read(content_type: str, query: dict[str, str], body: bytes) -> Upload:
    """What a request holds. Raises Refused 400 for a wrong option, a form that cannot be read or has too many parts."""
    upload = Upload()
    upload.set(query)
    claimed = content_type[:200] if content_type.isprintable() else ""
    if essence(claimed) != _FORM:
        if body:
            name = clean_name(query.get("name", ""))
            upload.files.append(File(name, claimed or "application/octet-stream", body))
        return upload
    boundary = parse_options_header(claimed)[1].get(b"boundary", b"")
    if not boundary:
        raise _bad("bad-form", "the Content-Type multipart/form-data names no boundary")
    form = _Form(upload)
    try:
        parser = MultipartParser(boundary, form.callbacks())
        parser.write(body)
    except FormParserError as error:
        raise _bad("bad-form", f"the form cannot be read: {error}") from None
    if not form.ended:
        raise _bad("bad-form", "the form breaks off: its last boundary is missing")
    return upload


def packed(files: list[File]) -> tuple[str, bytes]:
    """The files as one form, the same bytes for the same files whatever boundary the program's library thought of.

    Written in base64 (RFC 2045 section 6.8): MIME readers take line ends in binary data for text's.
    """
    boundary = f"postroom-{_digest([part for file in files for part in _parts(file)])[:40]}"
    parts = []
    for file in files:
        head = (
            f"--{boundary}",
            f'Content-Disposition: form-data; name="file"; {_filename(file.name or "file")}',
            f"Content-Type: {file.content_type}",
            "Content-Transfer-Encoding: base64",
        )
        parts += ["\r\n".join(head).encode(), b"\r\n\r\n", base64.encodebytes(file.data), b"\r\n"]
    return f"{_FORM}; boundary={boundary}", b"".join([*parts, f"--{boundary}--\r\n".encode()])


def essence(content_type: str) -> str:
    """The type without its parameters, lower case."""
    return content_type.partition(";")[0].strip().lower()


def clean_name(name: str) -> str:
    """The last part of a path, printable, 200 characters at most."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(filter(str.isprintable, last)).strip()[-_MAX_NAME:]


class _Form:
    """Takes what the parser finds. Every number is bounded; the body's size was bounded before."""

    def __init__(self, upload: Upload) -> None:
        self.upload = upload
        self.ended = False
        self._parts = 0
        self._header: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._data = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_FILES + MAX_FIELDS:
            raise _bad("too-many-files", f"the form has more than {MAX_FILES} files and {MAX_FIELDS} fields")
        self._header = {}
        self._data = bytearray()

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        if len(self._value) > MAX_PART_HEADER:
            raise _bad("bad-form", "a header within the form is too long")

    def _header_end(self) -> None:
        self._header[self._name.lower()] = self._value
        if len(self._header) > MAX_PART_HEADERS:
            raise _bad("bad-form", f"a part of the form has more than {MAX_PART_HEADERS} headers")
        self._name = self._value = b""

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._data += data[start:end]

    def _part_end(self) -> None:
        told = parse_options_header(self._header.get(b"content-disposition", b""))[1]
        if b"filename" in told:
            self._file(clean_name(told[b"filename"].decode("utf-8", "replace").replace("%22", '"')))
            return
        name = told.get(b"name", b"").decode("utf-8", "replace")
        if len(self._data) > MAX_FIELD:
            raise _bad("bad-option", f"{name[:40]!r} is longer than {MAX_FIELD} bytes; is it a file without a name?")
        self.upload.set({name: self._data.decode("utf-8", "replace").strip()})

    def _file(self, name: str) -> None:
        if not name and not self._data:
            return  # what a browser sends when nobody chose a file
        claimed = self._header.get(b"content-type", b"").decode("ascii", "replace").strip()[:200]
        content_type = claimed if claimed.isprintable() and claimed.isascii() else ""
        self.upload.files.append(File(name, content_type or "application/octet-stream", bytes(self._data)))
        if len(self.upload.files) > MAX_FILES:
            raise _bad("too-many-files", f"the form holds more than {MAX_FILES} files")

    def _end(self) -> None:
        self.ended = True


def _filename(name: str) -> str:
    if name.isascii() and not set('"\\%') & set(name):
        return f'filename="{name}"'
    return f"filename*=utf-8''{quote(name, safe='')}"


def _parts(file: File) -> tuple[bytes, bytes, bytes]:
    return file.name.encode("utf-8", "replace"), file.content_type.encode("utf-8", "replace"), file.data


def _digest(parts: list[bytes]) -> str:
    """SHA-256 of the parts with their lengths, so that moving a byte from one to the next changes it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()


def _bad(code: str, detail: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, code, detail)
