"""What a child may answer, by what it was asked: one that was taken over can send the worker any JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from tasks.errors import Unreadable


class Used(BaseModel):
    """What a child used, by its own account."""

    peak_kib: int = Field(ge=0)
    cpu_seconds: float = Field(ge=0, allow_inf_nan=False)


class Refusal(BaseModel):
    """Why there is no answer."""

    reason: str
    locked: bool
    lasting: bool


class _Answer(BaseModel):
    used: Used


class _Text(_Answer):
    """Answers `read`."""

    status: Literal["read", "skipped"]
    type: str
    reason: str
    text: str = ""
    pages: int = Field(default=1, ge=0)
    language: str = ""
    locked: bool = False
    lasting: bool = True
    children: list[tuple[str, str, str, bool]] = []

    def parts(self) -> int:
        """How many byte strings belong to it: the files in this one."""
        return len(self.children)


class _Mail(_Answer):
    """Answers `mail`; `tasks.readers.opening.mail_of` looks closer."""

    class Structure(BaseModel, extra="allow"):
        """A message's."""

        parts: list[dict[str, Any]]

    mail: Structure

    def parts(self) -> int:
        """The bytes of its parts."""
        return len(self.mail.parts)


class _Signers(_Answer):
    """Answers `dkim`."""

    good: list[str]

    def parts(self) -> int:
        """None."""
        return 0


class _Picture(_Answer):
    """Answers `picture`."""

    def parts(self) -> int:
        """The picture."""
        return 1


_SHAPES: dict[str, type[_Text | _Mail | _Signers | _Picture]] = {
    "read": _Text,
    "mail": _Mail,
    "dkim": _Signers,
    "picture": _Picture,
}


def no_answer() -> Unreadable:
    """What a file is whose reader answered with something else."""
    return Unreadable("the reader gave an answer that is none", lasting=False)


def checked(op: str, header: dict[str, Any], blobs: Sequence[bytes]) -> tuple[dict[str, Any], Used]:
    """The answer to `op` with all that belongs to it, and what it cost. Raises ValueError for what is none."""
    answer = _SHAPES[op].model_validate(header)
    if answer.parts() != len(blobs):
        raise ValueError(f"{len(blobs)} byte strings instead of {answer.parts()}")
    return answer.model_dump(exclude={"used"}), answer.used
