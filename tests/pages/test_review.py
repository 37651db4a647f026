"""Deciding what rests in review: once, on record, with corrections that count."""

from __future__ import annotations

import io
import json
import re
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from config.engine import ModelSettings
from daemon.demo.inputs import Expected
from daemon.evaluation import running
from daemon.evaluation.cases import load_cases
from daemon.evaluation.figures import figures
from tasks.models import Envelope, Job, Kind, Stage
from tests.pages.browsing import USERS, Browser
from tests.pages.scenery import Desk, desk, web
from tests.standin_model import standing_in

INVOICE = (
    "From: Ada <ada@sender.example>\r\nTo: office@harbourlane.example\r\nSubject: Invoice {0}\r\n"
    "Message-ID: <{0}@sender.example>\r\nDate: Mon, 02 Nov 2026 10:00:00 +0000\r\n\r\n"
    "Hill Ltd, invoice {0}. Total due EUR 761.60, please pay.\r\n"
)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, str]]:
    with desk(tmp_path_factory.mktemp("review"), pages=USERS) as made, web(made) as url:
        yield made, url


@pytest.fixture
def waiting(house: tuple[Desk, str], request: pytest.FixtureRequest) -> Job:
    """A job of this test's own that rests in review."""
    name = f"case-{abs(hash(request.node.name)) % 10_000}"
    fields = {"vendor": "Hill Ltd", "number": name, "total": "761.60", "currency": "EUR"}
    return house[0].mail(name, INVOICE.format(name).encode(), Expected(label="invoice", fields=fields), 0.55)


@pytest.fixture
def ben(house: tuple[Desk, str]) -> Browser:
    browser = Browser(house[1])
    browser.log_in("ben")
    return browser


def form(page: httpx.Response) -> dict[str, str]:
    """What the form on the page holds, as a browser would send it."""
    values = dict(re.findall(r'<input [^>]*?name="([^"]+)" value="([^"]*)"', page.text))
    text = re.search(r"<textarea[^>]*>(.*?)</textarea>", page.text, re.DOTALL)
    return {**values, "text": text[1].replace("\n", "\r\n") if text else "", "reason": ""}


def decide(browser: Browser, job: Job, action: str, **changes: str) -> httpx.Response:
    page = browser.get(f"/review/{job.id}")
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return browser.http.post(f"/ui/review/{job.id}", data={**form(page), **changed, "action": action})


def name_of(made: Desk, job: Job) -> str:
    return next(name for name, job_id in made.jobs.items() if job_id == job.id)


def sent_text(made: Desk, job: Job) -> str:
    """The reply that went out, after the stages that were left."""
    made.go_on(name_of(made, job))
    [mail] = [one for one in made.ledger.deliveries.of(job.id) if one.delivery.transport == "smtp"]
    assert mail.state == "sent"
    return mail.delivery.body.decode()


def test_an_unchanged_case_goes_on_as_the_template_writes_it(
    house: tuple[Desk, str], waiting: Job, ben: Browser
) -> None:
    """Approved with one click; who and when is on record and on the page."""
    made = house[0]
    assert decide(ben, waiting, "approve").status_code == 303
    assert "761.60" in sent_text(made, waiting)
    [decision] = made.ledger.decisions.of(waiting.id)
    assert (decision.who, decision.verdict, decision.corrects, decision.reply_text) == ("ben", "approved", False, "")
    assert "Approved by ben" in ben.get(f"/jobs/{waiting.id}").text
    assert ("ben", "approved") in [(deed.who, deed.action) for _, deed in made.ledger.visitors.deeds()]


def test_a_corrected_value_is_what_is_sent(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """In its normal form, and the reply says it though nobody touched the reply; the model's value stays on record."""
    made = house[0]
    assert decide(ben, waiting, "approve", field__total="EUR 716,60").status_code == 303
    text = sent_text(made, waiting)
    assert "716.60" in text
    assert "761.60" not in text
    [decision] = made.ledger.decisions.of(waiting.id)
    assert (decision.fields["total"], decision.fields_before["total"]) == ("716.60", "761.60")


def test_an_edited_reply_goes_out_in_the_reviewers_words(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """As plain text, in the thread of the mail."""
    assert decide(ben, waiting, "approve", text="We call you.\r\n\r\nBen").status_code == 303
    text = sent_text(house[0], waiting)
    assert "We call you.\r\n\r\nBen" in text
    assert "thank you" not in text.lower()
    assert "In-Reply-To: <case-" in text


def test_another_label_brings_its_own_values_and_reply(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """The form shows what is asked for there; the list shows the new label."""
    page = ben.get(f"/review/{waiting.id}?label=complaint")
    assert 'name="field.order_number"' in page.text
    assert 'name="field.vendor"' not in page.text
    answer = ben.http.post(
        f"/ui/review/{waiting.id}", data={**form(page), "field.order_number": "HL-1", "action": "approve"}
    )
    assert answer.status_code == 303
    job = house[0].ledger.jobs.get(waiting.id)
    assert job
    assert (job.label, job.confidence) == ("complaint", 1.0)
    assert "HL-1" in sent_text(house[0], waiting)


def test_a_value_that_is_none_is_told_beside_it(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """Nothing is decided, and nothing that was typed is lost."""
    page = decide(ben, waiting, "approve", field__total="a lot", text="My own words.")
    assert page.status_code == 200
    assert 'aria-invalid="true"' in page.text
    assert 'value="a lot"' in page.text
    assert "My own words." in page.text
    assert house[0].job(name_of(house[0], waiting)).state.value == "review"


def test_the_preview_decides_nothing(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """It shows the reply with the values as they are in the form."""
    page = decide(ben, waiting, "preview", field__total="99.95")
    assert "99.95" in form(page)["text"]
    assert house[0].job(name_of(house[0], waiting)).state.value == "review"
    answer = ben.http.post(f"/ui/review/{waiting.id}", data={**form(page), "action": "approve"})
    assert answer.status_code == 303
    assert house[0].ledger.decisions.of(waiting.id)[0].reply_text == ""


def test_a_rejection_needs_a_reason_and_ends_the_job(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """Nothing is sent."""
    assert decide(ben, waiting, "reject").status_code == 409
    assert decide(ben, waiting, "reject", reason="not for us").status_code == 303
    job = house[0].job(name_of(house[0], waiting))
    assert (job.state.value, job.reason) == ("cancelled", "not for us")
    assert house[0].ledger.deliveries.of(job.id) == []


def test_two_people_cannot_decide_twice(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """Both have the page open; the second one is told who was faster, and nothing of theirs happens."""
    anna = Browser(house[1])
    anna.log_in("anna")
    mine = form(ben.get(f"/review/{waiting.id}"))
    hers = form(anna.get(f"/review/{waiting.id}"))
    assert anna.http.post(f"/ui/review/{waiting.id}", data={**hers, "action": "approve"}).status_code == 303
    late = ben.http.post(f"/ui/review/{waiting.id}", data={**mine, "action": "reject", "reason": "no"})
    assert late.status_code == 409
    assert "anna has approved it already" in late.text
    assert len(house[0].ledger.decisions.of(waiting.id)) == 1


def test_a_page_from_before_the_job_was_judged_anew_decides_nothing(
    house: tuple[Desk, str], waiting: Job, ben: Browser
) -> None:
    """What the reviewer saw is no longer what it is."""
    made = house[0]
    old = form(ben.get(f"/review/{waiting.id}"))
    made.ledger.jobs.retry(waiting.id, Stage.CLASSIFY, why="again")
    made.judge.confidence = 0.5
    made.judge.expected = Expected(label="order")
    assert made.go_on(name_of(made, waiting)).state.value == "review"
    late = ben.http.post(f"/ui/review/{waiting.id}", data={**old, "action": "approve"})
    assert late.status_code == 409
    assert made.ledger.decisions.of(waiting.id) == []


def test_viewers_look_and_do_not_decide(house: tuple[Desk, str], waiting: Job) -> None:
    """Nor do they get the form or the export."""
    vera = Browser(house[1])
    vera.log_in("vera")
    assert f"/ui/jobs/{waiting.id}" in vera.get("/review").text
    assert vera.get(f"/review/{waiting.id}").status_code == 403
    assert vera.get("/review/corrections.jsonl").status_code == 403
    assert vera.get("/review/cases.zip").status_code == 403
    assert vera.post(f"/review/{waiting.id}", "/jobs", action="approve", seen="3").status_code == 403


def test_looking_never_decides(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """A link, followed by a person or by a mail scanner, only opens the page."""
    ben.get(f"/review/{waiting.id}?action=approve&seen={waiting.lease_token}")
    assert house[0].job(name_of(house[0], waiting)).state.value == "review"


def test_decisions_are_exported_as_labelled_cases(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """One JSON object a line: what it is, and what the model had said."""
    decide(ben, waiting, "approve", field__total="700.00")
    answer = ben.get("/review/corrections.jsonl")
    cases = {case["job"]: case for case in map(json.loads, answer.text.splitlines())}
    case = cases[waiting.id]
    assert (case["label"], case["model_label"], case["corrected"], case["by"]) == ("invoice", "invoice", True, "ben")
    assert (case["fields"]["total"], case["model_fields"]["total"]) == ("700.00", "761.60")


def test_decisions_are_cases_for_eval(house: tuple[Desk, str], waiting: Job, ben: Browser) -> None:
    """A ZIP file: the message as it came, and beside it what is right about it; what was rejected is left out."""
    decide(ben, waiting, "approve", field__total="700.00", field__vendor='Hill "&" Sons\\')
    other = house[0].mail("rejected", INVOICE.format("rejected").encode(), Expected(label="invoice"), 0.5)
    decide(ben, other, "reject", reason="not ours")
    answer = ben.get("/review/cases.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as file:
        assert file.testzip() is None
        assert file.read(f"{waiting.id}.eml").startswith(b"From: Ada")
        told = tomllib.loads(file.read(f"{waiting.id}.expected.toml").decode())
        assert (told["label"], told["source"]) == ("invoice", "smtp")
        assert (told["fields"]["total"], told["fields"]["vendor"]) == ("700.00", 'Hill "&" Sons\\')
        assert not [name for name in file.namelist() if other.id in name]


def test_eval_runs_what_was_downloaded(house: tuple[Desk, str], waiting: Job, ben: Browser, tmp_path: Path) -> None:
    """A mail, an event and a file, each by its way in; right is what the reviewer left in the form, not what was read."""
    made = house[0]
    event = Envelope(source="webhook:shop", kind=Kind.EVENT, key="cases 1", content_type="application/json")
    scan = Envelope(source="folder:in", kind=Kind.FILE, key="cases 2", content_type="text/plain", name="Scan 7.TXT")
    read = Expected(label="order", fields={"number": "HL-20418", "customer": "Fernbank"})
    bought = made.take("bought", event, b'{"number": "HL-20418", "customer": "Fernbank"}', read, 0.5)
    scanned = made.take("scanned", scan, b"An order.\nNumber: HL-20418\nCustomer: Fernbank\n", read, 0.5)
    vendor = 'Hill "&" Sons\\'
    assert decide(ben, waiting, "approve", field__total="EUR 1.700,00", field__vendor=vendor).status_code == 303
    assert decide(ben, bought, "approve").status_code == 303
    assert decide(ben, scanned, "approve", field__number="HL-20419").status_code == 303
    with zipfile.ZipFile(io.BytesIO(ben.get("/review/cases.zip").content)) as file:
        file.extractall(tmp_path)
    cases = {case.name: case for case in load_cases(tmp_path)}
    mine = {job.id: cases[job.id] for job in (waiting, bought, scanned)}
    assert [(case.label, case.source, case.path.suffix) for case in mine.values()] == [
        ("invoice", "smtp", ".eml"),
        ("order", "webhook:shop", ".json"),
        ("order", "folder:in", ".TXT"),
    ]
    assert (mine[waiting.id].fields["total"], mine[waiting.id].fields["vendor"]) == (("1700.00",), (vendor,))
    assert mine[scanned.id].fields == {"number": ("HL-20419",), "customer": ("Fernbank",)}
    with standing_in("order") as model:
        settings = made.settings.model_copy(update={"model": ModelSettings(host=model.url)})
        wanted = running.plan(settings, tmp_path, "both", list(mine.values()), (), beside=False)
        told = figures(mine, list(running.run(wanted, lambda _: False)))
    assert (told.cases, told.errors) == (3, 0)
    assert told.by_label == {"invoice": (0, 1), "order": (2, 2)}
    assert {name: one.wanted for name, one in told.fields.items()} == {"order.number": 2, "order.customer": 2}
