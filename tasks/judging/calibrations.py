"""The file of calibrations: which curve belongs to which model and question. `postroom eval --calibrate` writes it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from config.routes import Route
from tasks.files import replacing
from tasks.judging.calibration import Curve
from tasks.judging.leaning import BLANK
from tasks.models import Noun
from tasks.prompts import Prompts


class Calibration(Noun):
    """One curve, what it is for, and what it was made from."""

    model: str
    question: str
    """`question_of` the prompts and the route: another wording or another label needs another curve."""
    method: str
    """`logprobs` or `schema`: how the probability came about (Classification.method)."""
    route: str
    """For people: the route whose labels were asked."""
    curve: Curve
    answers: int
    right: int
    ece_before: float
    ece_after: float
    """Of answers that the curve had not seen (calibration.held_out)."""
    made_at: int
    """Milliseconds since the epoch."""


class _File(BaseModel):
    model_config = ConfigDict(extra="ignore")

    calibrations: tuple[Calibration, ...] = ()


def question_of(prompts: Prompts, route: Route, evening: float) -> str:
    """Name of what the model is asked for a label, whatever the document: a hash of instructions, labels and examples.

    And of `evening` ([model] evening): a curve that was made of other numbers fits no longer.
    """
    asked = prompts.label(route, BLANK)
    return hashlib.sha256(json.dumps([asked, evening]).encode()).hexdigest()[:16]


def read(path: Path) -> tuple[Calibration, ...]:
    """All that are in the file; none when there is no file. Raises ValueError when it cannot be read."""
    try:
        return _File.model_validate_json(path.read_bytes()).calibrations
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(
            f"{path} holds no calibrations ({where}: {first['msg']}); make it anew with `postroom eval --calibrate`"
        ) from None


def keep(path: Path, calibration: Calibration) -> None:
    """Write it to the file, in place of an older one for the same. Raises ValueError or Permanent."""
    others = [one for one in read(path) if _use(one) != _use(calibration)]
    written = _File(calibrations=(*others, calibration)).model_dump_json(indent=2)
    with replacing(path) as file:
        file.write(written.encode() + b"\n")


def _use(calibration: Calibration) -> tuple[str, str, str]:
    return calibration.model, calibration.question, calibration.method


class Calibrations:
    """The file as a long-lived process sees it: read again when it has changed."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._stamp: tuple[int, int] | None = None
        self._known: dict[tuple[str, str, str], Calibration] = {}

    def find(self, model: str, question: str, method: str) -> Calibration | None:
        """The calibration for that; None when there is none. Raises ValueError when the file cannot be read."""
        if self._path is None:
            return None
        try:
            stat = self._path.stat()
        except OSError:
            return None
        stamp = stat.st_mtime_ns, stat.st_size
        if stamp != self._stamp:
            self._known = {_use(one): one for one in read(self._path)}
            self._stamp = stamp
        return self._known.get((model, question, method))
