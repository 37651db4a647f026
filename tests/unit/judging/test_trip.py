"""tasks/judging/classify.py: what the parts of judging come to together, before a model server that only reads captions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.engine import ModelSettings
from config.routes import FieldSpec, Label, Route
from daemon.web.stream import percent_of
from tasks.ids import new_job_id
from tasks.judging.calibration import Curve
from tasks.judging.calibrations import Calibration, keep, question_of
from tasks.model import Judge, Progress
from tasks.models import Classification, Document, Job, Kind, MailFacts, Stage, State
from tasks.prompts import Prompts
from tests.standin_model import StandIn, standing_in

AMOUNT = FieldSpec(type="decimal", description="an amount")
ROUTE = Route(
    name="bills",
    labels={
        "bill": Label(
            says="A bill that is to pay.",
            fields={
                "net_sum": AMOUNT,
                "tax_sum": AMOUNT,
                "whole_sum": AMOUNT.model_copy(update={"required": True, "xml": ("Total with tax",)}),
            },
            checks=("net_sum + tax_sum = whole_sum",),
        ),
        "other": Label(says="Anything else that comes."),
    },
)
PAGE = "Net sum: 100.00\nTax sum: 19.00\nWhole sum: {}\n"


@pytest.fixture
def model() -> Iterator[StandIn]:
    with standing_in("bill") as server:
        server.mode = "reads"
        yield server


def document(text: str, ordinal: int = 1, name: str = "bill.pdf", **more: str) -> Document:
    kind = "application/xml" if name.endswith("xml") else "application/pdf"
    return Document.model_validate(
        {"ordinal": ordinal, "name": name, "content_type": kind, "size": 1, "sha256": "", "text": text, **more}
    )


def judged(model: StandIn, *documents: Document, calibrations: Path | None = None) -> Classification:
    judge = Judge(ModelSettings(host=model.url), calibrations=calibrations)
    return judge.classify(documents, None, ROUTE)


def test_a_sum_that_holds_needs_nobody(model: StandIn) -> None:
    """Net and tax make the whole."""
    told = judged(model, document(PAGE.format("119.00")))
    assert told.values() == {"net_sum": "100.00", "tax_sum": "19.00", "whole_sum": "119.00"}
    assert told.review == ""


def test_a_sum_that_does_not_hold_is_for_a_person(model: StandIn) -> None:
    """The reason has the numbers."""
    told = judged(model, document(PAGE.format("191.00")))
    assert told.review == (
        "net_sum + tax_sum = whole_sum does not hold: 119.00 against 191.00 "
        "(net_sum 100.00, tax_sum 19.00, whole_sum 191.00)"
    )


def test_data_outranks_the_page_and_both_are_told(model: StandIn) -> None:
    """The value is the XML's, its evidence is the XML's line, the page's other value is noted and for a person."""
    told = judged(
        model,
        document(PAGE.format("191.00")),
        document("Invoice number: 7\nTotal with tax: 119.00 EUR", 2, "factur-x.xml", parent="bill.pdf"),
    )
    [whole] = [one for one in told.fields if one.name == "whole_sum"]
    assert (whole.value, whole.document, whole.line, whole.quote) == ("119.00", 2, 2, "Total with tax: 119.00 EUR")
    assert 'whole_sum: taken from the XML ("119.00"); the model read "191.00"' in told.notes
    assert told.review == "whole_sum: the XML says 119.00, the pages say 191.00 instead"


def test_a_needed_value_that_the_page_lacks_comes_from_the_data(model: StandIn) -> None:
    """Without asking the model again for it."""
    told = judged(model, document("See the data."), document("Total with tax: 5.00", 2, "x.xml", parent="bill.pdf"))
    assert told.values() == {"whole_sum": "5.00"}
    assert told.review == ""
    assert not any("asked" in note for note in told.notes)


def calibration(prompts: Prompts, **more: str) -> Calibration:
    question = question_of(prompts, ROUTE, ModelSettings().evening)
    told = {"model": ModelSettings().name, "question": question, "method": "logprobs", **more}
    return Calibration.model_validate(
        {**told, "route": "bills", "curve": Curve(slope=0.25), "answers": 60, "right": 45, "ece_before": 0.2,
         "ece_after": 0.05, "made_at": 1}
    )  # fmt: skip


def test_confidence_is_calibrated_for_this_model_and_question(model: StandIn, tmp_path: Path) -> None:
    """A quarter of the log-odds: what was told with certainty is told with 0.76 or so, and the story says from what."""
    path = tmp_path / "calibration.json"
    plain = judged(model, document(PAGE.format("119.00")), calibrations=path)
    keep(path, calibration(Prompts()))
    told = judged(model, document(PAGE.format("119.00")), calibrations=path)
    share = min(plain.confidence, 1 - 1e-6)
    assert told.confidence == pytest.approx(1 / (1 + math.exp(-0.25 * math.log(share / (1 - share)))), abs=1e-3)
    assert told.confidence < plain.confidence
    assert told.alternatives == plain.alternatives
    assert any(
        "the confidence is calibrated from 1.00 to" in note and "60 labelled answers" in note for note in told.notes
    )


def test_a_threshold_is_held_against_the_calibrated_confidence(model: StandIn, tmp_path: Path) -> None:
    """A model that is surer than it may be sends its work to review."""
    path = tmp_path / "calibration.json"
    keep(path, calibration(Prompts()).model_copy(update={"curve": Curve(slope=0.1, intercept=-3)}))
    told = judged(model, document(PAGE.format("119.00")), calibrations=path)
    assert told.review.startswith("the model is not sure: bill at 0.")


def test_a_calibration_of_something_else_is_not_applied_and_a_broken_one_is_told(
    model: StandIn, tmp_path: Path
) -> None:
    """The job goes on with the model's own probability."""
    path = tmp_path / "calibration.json"
    plain = judged(model, document(PAGE.format("119.00")))
    keep(path, calibration(Prompts(), model="another"))
    assert judged(model, document(PAGE.format("119.00")), calibrations=path) == plain
    path.write_text("broken")
    told = judged(model, document(PAGE.format("119.00")), calibrations=path)
    assert told.confidence == plain.confidence
    assert any("the confidence is not calibrated" in note for note in told.notes)


def test_progress_goes_up_through_each_stage_to_the_end(model: StandIn) -> None:
    """What the model tells of each stage is a share of the job's way; nothing goes back, and the end is 100."""
    seen: list[Progress] = []
    judge = Judge(ModelSettings(host=model.url))
    page = document(PAGE.format("119.00"))
    found = judge.classify([page], None, ROUTE, seen.append)
    first = [percent_of(job(Stage.CLASSIFY, one.percent)) for one in seen]
    seen.clear()
    judge.free_text([page], None, found, ROUTE, seen.append)
    second = [percent_of(job(Stage.REPLY, one.percent)) for one in seen]
    way = [
        percent_of(job(Stage.EXTRACT)), *first, percent_of(job(Stage.REPLY)), *second, percent_of(job(Stage.DELIVER)),
        percent_of(job(None)),
    ]  # fmt: skip
    assert way == sorted(way)
    assert (way[0], first[-1], second[-1], way[-1]) == (0, 50, 75, 100)
    assert len(set(first)) > 2


def job(stage: Stage | None, percent: int = 0) -> Job:
    return Job(
        id=new_job_id(), source="cli", kind=Kind.FILE, key="k", state=State.DONE if stage is None else State.CLASSIFYING,
        stage=stage, route=None, sender="", recipients=(), subject="", message_id="", content_type="", name="", headers={},
        raw_sha256="", raw_size=0, label=None, confidence=None, reason="", attempts=1, lease_token=1, lease_owner="",
        lease_beat=0, progress={"phase": "fields", "tokens": 1, "percent": percent}, due_at=None, received_at=0, updated_at=0,
    )  # fmt: skip


def test_the_sender_s_line_is_evidence_too(model: StandIn) -> None:
    """An address that stands in no document but in the mail's head is read and found, with no page."""
    fields = {"from": FieldSpec(type="email", description="address of who writes")}
    route = Route(name="post", labels={"bill": Label(says="A bill that is to pay.", fields=fields)})
    mail = MailFacts(message_id="<1@x.example>", from_address="ann@x.example", from_name="", subject="Hello")
    told = Judge(ModelSettings(host=model.url)).classify([document("No address here.")], mail, route)
    [found] = told.fields
    assert (found.value, found.supported, found.page) == ("ann@x.example", True, None)


@pytest.mark.parametrize(
    ("languages", "told"),
    [
        (("de", ""), "in German"),
        (("de", "en"), "as they are written, without"),
        (("",), "as they are written, without"),
    ],
)
def test_the_form_tells_the_language_that_all_text_has(model: StandIn, languages: tuple[str, ...], told: str) -> None:
    """Where documents are of several languages none is told: values stand in either."""
    texts = [document(PAGE.format("119.00"), number, language=one) for number, one in enumerate(languages, 1)]
    judged(model, *texts)
    forms = [asked["messages"][-1]["content"] for asked in model.heard if "format" in asked]
    assert forms
    assert all(told in form for form in forms)
