"""The file of calibrations: what is kept is found again, for the same model and question only."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.routes import Label, Route
from tasks.judging.calibration import Curve
from tasks.judging.calibrations import Calibration, Calibrations, keep, question_of, read
from tasks.prompts import Prompts

ROUTE = Route(name="post", labels={"bill": Label(says="A bill to pay."), "rest": Label(says="All that is left.")})


def made(model: str = "small", slope: float = 0.5, question: str = "q1") -> Calibration:
    return Calibration(
        model=model, question=question, method="logprobs", route="post", curve=Curve(slope=slope), answers=60,
        right=50, ece_before=0.12, ece_after=0.04, made_at=1_790_000_000_000,
    )  # fmt: skip


def test_what_is_kept_is_found_by_a_process_that_runs(tmp_path: Path) -> None:
    """The next look after a new calibration sees it; one for the same use takes the older one's place."""
    path = tmp_path / "calibration.json"
    shelf = Calibrations(path)
    assert shelf.find("small", "q1", "logprobs") is None
    keep(path, made())
    keep(path, made("large"))
    assert shelf.find("small", "q1", "logprobs") == made()
    keep(path, made(slope=0.75))
    found = shelf.find("small", "q1", "logprobs")
    assert found is not None
    assert found.curve.slope == 0.75
    assert len(read(path)) == 2


def test_another_question_has_no_calibration(tmp_path: Path) -> None:
    """A curve for other labels, another method or another model is not taken."""
    path = tmp_path / "calibration.json"
    keep(path, made())
    shelf = Calibrations(path)
    asked = [("small", "q2", "logprobs"), ("small", "q1", "schema"), ("large", "q1", "logprobs")]
    assert [shelf.find(*one) for one in asked] == [None, None, None]
    assert Calibrations(None).find("small", "q1", "logprobs") is None


def test_a_question_is_its_wording() -> None:
    """A label's sentence, its example, its name, how answers are evened: each makes another question; the document does not."""
    prompts = Prompts()
    asked = question_of(prompts, ROUTE, 0.4)
    assert asked == question_of(prompts, ROUTE.model_copy(), 0.4)
    for label in (Label(says="A bill to keep."), Label(says="A bill to pay.", example="Pay 5 EUR.")):
        changed = ROUTE.model_copy(update={"labels": {**ROUTE.labels, "bill": label}})
        assert question_of(prompts, changed, 0.4) != asked
    assert question_of(prompts, ROUTE, 0.5) != asked


@pytest.mark.parametrize("text", ["", "[]", '{"calibrations": [{"model": 1}]}', '{"calibrations": 5}'])
def test_a_broken_file_is_told_with_what_to_do(tmp_path: Path, text: str) -> None:
    """The message names the file and the command that makes a new one."""
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"calibration\.json holds no calibrations .* `postroom eval --calibrate"):
        Calibrations(path).find("small", "q1", "logprobs")
