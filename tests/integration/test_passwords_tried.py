"""Locked attachments of a job are tried with the passwords of its route, and with no other (tasks/stages/extract.py)."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from config.errors import ConfigError
from config.routes import ReplySpec, Route
from config.settings import Settings, load
from tasks import pipeline
from tasks.configured import passwords_of, routes_of
from tasks.intake import Intake
from tasks.ledger import Ledger
from tasks.ledger.schema import metadata
from tasks.models import Classification, Document, Stage
from tasks.stages.reply import reply
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.integration.event_parts import StandIn
from tests.integration.readers import samples

PASSWORD = "open sesame 4711"
CONFIG = """
routes_dir = "{folder}/routes"
state_dir = "{folder}/state"
{ledger}
[smtp_out]
own_addresses = ["invoices@example.com"]
[passwords.bank]
secrets = ["wrong", "{password}"]
[passwords.others]
secrets = ["something else"]
"""
BANK = """
[match]
sender = "*@bank.example"
[documents]
passwords = ["bank"]
"""
TABLES = '[match]\nfile_type = "text/csv"\n'
REST = '[documents]\npasswords = ["others"]\n'


@pytest.fixture
def shop(tmp_path: Path, ledger: Ledger, settings: Settings) -> Workshop:
    """A worker whose second route has the password."""
    routes = tmp_path / "routes"
    routes.mkdir()
    for name, text in (("10-tables", TABLES), ("20-bank", BANK), ("90-rest", REST)):
        (routes / f"{name}.toml").write_text(text)
    given = f'ledger_url = "{settings.ledger_url}"' if settings.ledger_url else ""
    (tmp_path / "postroom.toml").write_text(CONFIG.format(folder=tmp_path, password=PASSWORD, ledger=given))
    own = load(tmp_path / "postroom.toml")
    made = Workshop(own, routes_of(own), ledger, StandIn())  # type: ignore[arg-type]
    made.heart.stop()
    return made


def read(shop: Workshop, intake: Intake, sender: str, data: bytes) -> tuple[str, Document]:
    """A mail from `sender` with one locked file, after the extract stage."""
    raw = samples.mail(files={"locked.bin": ("application/octet-stream", data)})
    raw = raw.replace(b"anna@example.org", sender.encode())
    job_id = intake.accept(envelope(sender, sender=sender), raw).job_id
    pipeline.run(shop, job_id, pipeline.from_stage(Stage.EXTRACT)[0])
    return job_id, shop.ledger.jobs.documents(job_id)[1]


def test_the_passwords_of_the_route_open_its_documents(
    shop: Workshop, intake: Intake, ledger: Ledger, capfd: pytest.CaptureFixture[str]
) -> None:
    """A route that is chosen by sender has its passwords tried; another sender's file stays locked, told as such."""
    pdf = samples.pdf(password=PASSWORD)
    _, opened = read(shop, intake, "notices@bank.example", pdf)
    assert "Grand total: 1.234,56 EUR" in opened.text
    assert opened.reason.startswith("opened with one of the route's passwords")
    _, locked = read(shop, intake, "somebody@else.example", pdf)
    assert locked.locked
    assert locked.reason == "the PDF is encrypted and opens only with a password, and none of those of its route fits"
    out, err = capfd.readouterr()
    assert PASSWORD not in out + err
    with ledger.database.read() as connection:
        for table in metadata.sorted_tables:
            assert PASSWORD not in str(connection.execute(sa.select(table)).all()), table.name


def test_passwords_come_from_credentials_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like all secrets: a systemd credential, or the environment."""
    (tmp_path / "passwords__bank__secrets").write_text('["from a credential"]')
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("POSTROOM_PASSWORDS__OTHERS__SECRETS", '["from the environment"]')
    settings = load()
    given = {name: [one.get_secret_value() for one in each.secrets] for name, each in settings.passwords.items()}
    assert given == {"bank": ["from a credential"], "others": ["from the environment"]}
    assert "from a credential" not in repr(settings)


def test_a_list_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A route may only name lists that postroom.toml has; no message shows a password."""
    (tmp_path / "10-bank.toml").write_text(BANK)
    (tmp_path / "90-rest.toml").write_text("[labels]\n")
    with pytest.raises(ConfigError, match=r"10-bank.toml:5: documents.passwords: there is no list of passwords 'bank'"):
        routes_of(Settings(routes_dir=tmp_path))
    (tmp_path / "postroom.toml").write_text("[passwords.bank]\nsecrets = [4711]\n")
    with pytest.raises(ConfigError) as raised:
        load(tmp_path / "postroom.toml")
    assert "4711" not in str(raised.value)


def test_each_password_is_tried_once(tmp_path: Path) -> None:
    """In the order of the lists that the route names."""
    (tmp_path / "10-all.toml").write_text('[documents]\npasswords = ["b", "a"]\n')
    lists = {"a": {"secrets": ["x", "y"]}, "b": {"secrets": ["y", "z"]}}
    settings = Settings.model_validate({"routes_dir": tmp_path, "passwords": lists})
    assert passwords_of(settings, routes_of(settings)[0]) == ("y", "z", "x")


@pytest.mark.sqlite_only
@pytest.mark.parametrize(("header", "answered"), [(b"", True), (b"Auto-Submitted: auto-generated\n", False)])
def test_the_sender_is_asked_for_one_without_a_password(
    shop: Workshop, intake: Intake, header: bytes, answered: bool
) -> None:
    """The reply names the file and what to do; a machine that sends one is not answered, as it never is."""
    raw = header + samples.mail(files={"offer.pdf": ("application/pdf", samples.pdf(password=PASSWORD))})
    job_id = intake.accept(envelope("x", sender="anna@example.org"), raw).job_id
    pipeline.run(shop, job_id, pipeline.from_stage(Stage.EXTRACT)[0])
    job = shop.ledger.jobs.get(job_id)
    assert job is not None
    route = Route(name="r", reply=ReplySpec(template="standard", free_text=False))
    found = Classification(label="invoice", confidence=0.9)
    answer = reply(job, pipeline.extracted_of(shop, job), found, route, shop.answering)
    assert bool(answer.deliveries) is answered
    if answered:
        assert "open only with a password; please send them again without one:\n\n  offer.pdf\n" in answer.text
