"""The example that docs/webhooks.md shows under "What an event becomes", as it stands there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from config.settings import Settings, load
from daemon import tryout
from tasks import egress
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.models import Stage, State
from tests.integration.event_parts import REST, House, StandIn

DOC = Path(__file__).parents[2] / "docs" / "webhooks.md"


def fences() -> dict[str, str]:
    """The examples of docs/webhooks.md under "What an event becomes", by file name; the event as `event`."""
    section = DOC.read_text("utf-8").split("### What an event becomes")[1].split("\n## ")[0]
    found: dict[str, str] = {}
    for language, text in re.findall(r"```(\w+)\n(.*?)```", section, re.DOTALL):
        named = re.match(r"(?:# |\{# )(\S+)", text)
        found[named[1] if named else language] = text
    return found


@pytest.fixture
def documented(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings, route and template as the documentation shows them."""
    shown = fences()
    for name in ("routes/15-billing.toml", "templates/event/billing.txt.j2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(shown[name])
    (tmp_path / "routes" / "90-rest.toml").write_text(REST)
    head = f'state_dir = "{tmp_path}/state"\nroutes_dir = "{tmp_path}/routes"\ntemplates_dir = "{tmp_path}/templates"\n'
    (tmp_path / "postroom.toml").write_text(head + shown["postroom.toml"])
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    return load(tmp_path / "postroom.toml")


def test_the_example_in_the_documentation_works(
    documented: Settings, ledger: Ledger, intake: Intake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Configuration, route, template and event as they stand there; only the network's answer is ours."""
    house = House(documented, ledger, intake)
    asked: list[str] = []

    def nobody(host: str, *_: Any, **__: Any) -> Any:
        asked.append(host)
        raise OSError("no such name")

    monkeypatch.setattr(egress.socket, "getaddrinfo", nobody)
    job_id = house.post(fences()["json"].encode(), source="webhook:billing")
    job = house.run(job_id)
    assert (job.state, job.stage, asked) == (State.WAITING, Stage.FETCH, ["eu.files.example"])
    assert job.reason == "eu.files.example: cannot connect: no such name"


def test_a_tried_event_says_what_would_be_fetched(
    documented: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`postroom try` shows the documents and connects to nobody."""
    monkeypatch.setattr(egress.socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    monkeypatch.setattr(tryout, "Judge", lambda *_, **__: StandIn())
    file = tmp_path / "event.json"
    file.write_text(fences()["json"])
    trip = tryout.run(documented, file, "webhook:billing")
    assert (trip.route.name, trip.job.subject) == ("billing", "Bill R-7")
    event, terms, scan, note = trip.extracted.documents
    assert event.text == "Invoice R-7 from Muster GmbH\nTotal: 120.00 EUR\n- Design: 100.00\n- Travel: 20.00"
    assert (terms.name, terms.text, note.text) == ("terms.txt", "Pay within 14 days.", "Deliver to the back door.")
    assert (scan.name, scan.status) == ("scan.pdf", "skipped")
    assert scan.reason == "it would be fetched from https://eu.files.example/r7.pdf"
    file.write_text(fences()["json"].replace("eu.files.example", "files.evil.example"))
    refused = tryout.run(documented, file, "webhook:billing").extracted.documents[2]
    assert refused.status == "unreadable"
    assert "not among the `hosts`" in refused.reason


def test_the_example_is_toml_that_the_reference_knows() -> None:
    """Nothing in it is left to chance by a parser that forgives."""
    shown = fences()
    assert tomllib.loads(shown["postroom.toml"])["webhook"]["billing"]["fetch"]["hosts"] == ["*.files.example"]
    assert set(shown) == {"postroom.toml", "routes/15-billing.toml", "templates/event/billing.txt.j2", "json"}
