"""`postroom eval`, golden cases and backtest against a stand-in model: what they write, print and leave alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from config.errors import ConfigError
from config.settings import Settings
from daemon.evaluation import golden, store
from daemon.evaluation.backtest import Backtest, Compared
from daemon.evaluation.session import INTERRUPTED, Wishes, evaluate
from tasks import pipeline
from tasks.configured import routes_of
from tasks.errors import Permanent
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.schema import metadata
from tasks.model import Judge
from tasks.models import Delivery, State
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.standin_model import StandIn, standing_in

ROUTE = """
[labels.invoice]
says = "A bill that asks for payment."
[labels.invoice.fields.number]
description = "invoice number"
[labels.other]
says = "Anything else that may come."
"""
MAIL = (
    b"From: Ada <ada@sender.example>\r\nTo: in@post.example\r\nSubject: Bill 7\r\n"
    b"Message-ID: <m1@sender.example>\r\n\r\nPay 10 EUR for invoice 7, please.\r\n"
)
pytestmark = pytest.mark.sqlite_only


@pytest.fixture
def model() -> Iterator[StandIn]:
    with standing_in("invoice") as server:
        yield server


@pytest.fixture
def settings(settings: Settings, model: StandIn, tmp_path: Path) -> Settings:
    """With routes of the test's own, judged by the stand-in."""
    routes = tmp_path / "routes"
    routes.mkdir()
    (routes / "50-post.toml").write_text(
        '[match]\nsource = "smtp"\n[reply]\ntemplate = "default"\nfree_text = false\n' + ROUTE
    )
    (routes / "90-rest.toml").write_text('[labels.other]\nsays = "Whatever else there is."\n')
    asked = settings.model.model_copy(update={"host": model.url})
    return settings.model_copy(update={"model": asked, "routes_dir": routes})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of four: by its own route, two are invoices."""
    made = tmp_path / "set"
    made.mkdir()
    (made / "route.toml").write_text(ROUTE)
    for name, label in {"one": "invoice", "two": "invoice", "three": "other", "four": "other"}.items():
        put(made, name, f'label = "{label}"\n')
    return made


def put(folder: Path, name: str, expected: str, text: bytes = b"Invoice 7, pay 10 EUR.", ending: str = ".txt") -> None:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}{ending}").write_bytes(text)
    (folder / f"{name}.expected.toml").write_text(expected)


def runs(settings: Settings, folder: Path) -> list[store.Run]:
    return store.runs(store.folder_of(settings.state_dir, folder))


def test_a_set_is_judged_and_reported(
    settings: Settings, folder: Path, model: StandIn, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half of the labels are right; the page holds the matrix and loads nothing; the next run is compared with this."""
    assert evaluate(settings, Wishes(folder, show_unseen=True)) == 0
    out = capsys.readouterr().out
    assert "labels right                     0.500  (2 of 4)" in out
    assert "[4/4] " in out
    [run] = runs(settings, folder)
    page = run.path.with_suffix(".html").read_text("utf-8")
    assert "Confusion matrix: 2 right and 2 wrong of 2 labels" in page
    assert "2 of other told as invoice" in page
    assert not [word for word in ("http://", "https://", "<script", "<link", "@import") if word in page]
    (folder / "three.expected.toml").write_text('label = "invoice"\n')
    model.label = "other"
    assert evaluate(settings, Wishes(folder, show_unseen=True, anew=True)) == 0
    out = capsys.readouterr().out
    assert "0.250  (1 of 4)   -0.500" in out  # both runs are counted by what the cases say now
    assert "now right: four, invoice, now other" in out
    assert "now WRONG: one, invoice, now other" in out


def test_what_is_wrong_in_the_unseen_half_stays_unseen(
    settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only figures are told of it, unless it is asked for."""
    for number in range(6):
        put(folder, f"more-{number}", 'label = "other"\n')
    assert evaluate(settings, Wishes(folder, half="unseen")) == 0
    out = capsys.readouterr().out
    assert "is not shown, so that nothing is tuned on it" in out
    assert "WRONG" not in out
    assert "right is" not in out
    assert "is not shown" in runs(settings, folder)[0].path.with_suffix(".html").read_text("utf-8")


def test_a_run_stopped_by_ctrl_c_goes_on(
    settings: Settings,
    folder: Path,
    model: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What was answered is kept, and is not asked again."""
    add = store.Run.add

    def stop_after_two(run: store.Run, outcome: object) -> None:
        add(run, outcome)  # type: ignore[arg-type]
        if len(run.outcomes) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(store.Run, "add", stop_after_two)
        assert evaluate(settings, Wishes(folder)) == INTERRUPTED
    assert "The same command goes on" in capsys.readouterr().out
    asked = model.asked
    assert evaluate(settings, Wishes(folder)) == 0
    assert "2 of 4 are known" in capsys.readouterr().out
    assert model.asked == 2 * asked
    assert len(runs(settings, folder)) == 1


def test_models_and_the_plain_way_beside(settings: Settings, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each model has its own figures; the stand-in's JSON has no confidence, so the plain way is an error here."""
    assert evaluate(settings, Wishes(folder, models=("small", "large"), plain=True, as_json=True)) == 1
    out = capsys.readouterr().out
    told = json.loads(out[out.index("{\n") :])  # log lines of the test's own process stand before it
    assert [(one["model"], one["way"]) for one in told["results"]] == [
        ("small", "postroom"),
        ("small", "plain"),
        ("large", "postroom"),
        ("large", "plain"),
    ]
    assert told["results"][1]["figures"]["without any answer"] == "4"
    assert told["whole"] is True


def test_too_few_answers_make_no_calibration(settings: Settings, folder: Path) -> None:
    """Two right ones and two wrong ones say nothing about a confidence."""
    with pytest.raises(Permanent, match=r"no calibration was made: .* are too few"):
        evaluate(settings, Wishes(folder, calibrate=True))
    assert not (settings.state_dir / "calibration.json").exists()


def test_golden_cases_beside_a_route(settings: Settings) -> None:
    """Well, a wrong label, a missing value, and a file that another route takes: each is told by itself."""
    cases = settings.routes_dir / "50-post.cases"
    put(cases, "a", 'label = "invoice"\nsource = "smtp"\n', MAIL, ".eml")
    put(cases, "b", 'label = "other"\nsource = "smtp"\n', MAIL, ".eml")
    put(cases, "c", 'label = "invoice"\nsource = "smtp"\n[fields]\nnumber = "7"\n', MAIL, ".eml")
    put(cases, "d", 'label = "invoice"\nsource = "imap:x"\n', MAIL, ".eml")
    found = list(golden.findings(settings))
    assert [one.state for one in found] == ["ok", "failed", "failed", "failed"]
    assert "it is other, and was taken for invoice" in found[1].detail
    assert "number '7' was not read" in found[2].detail
    assert "the route rest takes it" in found[3].detail


def test_a_golden_case_that_is_written_wrong(settings: Settings) -> None:
    """It stops the check as a wrong route does, before any model is asked."""
    put(settings.routes_dir / "50-post.cases", "a", 'label = "invoise"\n', MAIL, ".eml")
    with pytest.raises(ConfigError, match="no route has 'invoise'; write one of: invoice, other"):
        list(golden.findings(settings))


def everything(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    with ledger.database.read() as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(sa.select(table))] for table in metadata.sorted_tables
        }


def test_backtest_tells_what_would_change_and_changes_nothing(
    settings: Settings, ledger: Ledger, intake: Intake, model: StandIn, sent: list[Delivery]
) -> None:
    """As before with the same route; with another one label, reply and recipients change, and no row does."""
    shop = Workshop(settings, list(routes_of(settings)), ledger, Judge(settings.model))
    job_id = intake.accept(envelope(source="smtp", recipients=("in@post.example",)), MAIL).job_id
    for step in pipeline.STAGES:
        pipeline.run(shop, job_id, step)
    shop.heart.stop()
    job = ledger.jobs.find(job_id)
    assert (job.state, job.label, len(sent)) == (State.DONE, "invoice", 1)
    before = everything(ledger)

    def compared() -> list[Compared]:
        test = Backtest(settings, ledger)
        return [test.compare(one) for one in test.jobs(0)]

    assert [one.changes for one in compared()] == [()]
    route = settings.routes_dir / "50-post.toml"
    route.write_text(route.read_text().replace('template = "default"', 'template = "default"\nnever = ["other"]'))
    model.label = "other"
    [one] = compared()
    assert {change.what for change in one.changes} == {"label", "reply", "recipients"}
    told = {change.what: (change.then, change.now) for change in one.changes}
    assert told["label"] == ("invoice 1.00", "other 1.00")
    assert told["recipients"] == ("smtp ada@sender.example", "(nobody)")
    assert everything(ledger) == before
    assert len(sent) == 1
