"""One request for a page, and the ways in which it may end early."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal

from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

PREFIX = "/ui"
Role = Literal["viewer", "reviewer", "admin"]
RANK: dict[Role, int] = {"viewer": 0, "reviewer": 1, "admin": 2}


class Stop(Exception):
    """The request ends here, with a page that says why."""

    def __init__(self, status: HTTPStatus, title: str, text: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.text = text
        self.headers = headers or {}


class NeedsLogin(Exception):
    """Nobody has logged in with this browser."""


@dataclass(frozen=True)
class Visitor:
    """Who asks, and what they may do."""

    who: str
    role: Role
    by_session: bool = False
    """Whether there is a session that can be ended."""

    def may(self, role: Role) -> bool:
        """Whether the role reaches that far."""
        return RANK[self.role] >= RANK[role]


@dataclass(frozen=True)
class Ask:
    """A request whose visitor is known; `form` is filled when something was sent and its token was right."""

    request: Request
    visitor: Visitor
    csrf: str
    address: str
    form: FormData = field(default_factory=FormData)

    def query(self, name: str, most: int = 200) -> str:
        """A parameter of the address, without NUL, which no database takes."""
        return self.request.query_params.get(name, "").replace("\0", "")[:most]

    def sent(self, name: str, most: int = 200) -> str:
        """A field of the form as text, with line ends as `\\n`; empty when it is missing."""
        value = self.form.get(name)
        text = value if isinstance(value, str) else ""
        return text.replace("\r\n", "\n").replace("\0", "")[:most]

    def file(self, name: str) -> UploadFile | None:
        """A file of the form; None when nobody chose one."""
        value = self.form.get(name)
        return value if isinstance(value, UploadFile) and value.filename else None

    def path(self, name: str) -> str:
        """A part of the path."""
        return str(self.request.path_params[name])
