"""A configuration that cannot be used says what, where and what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.errors import ConfigError
from config.routes import load_routes
from config.settings import SHIPPED, TEMPLATES, load

REST = "[labels]\n"


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTROOM_CONFIG", "POSTROOM_STATE_DIR", "CREDENTIALS_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)


def settings_error(tmp_path: Path, text: str) -> str:
    path = tmp_path / "postroom.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        load(path)
    return str(raised.value).replace(str(tmp_path), "")


def route_error(tmp_path: Path, text: str, name: str = "10-test.toml") -> str:
    (tmp_path / name).write_text(text)
    (tmp_path / "90-rest.toml").write_text(REST)
    with pytest.raises(ConfigError) as raised:
        load_routes(tmp_path, TEMPLATES, frozenset({"accounting"}))
    return str(raised.value).replace(str(tmp_path), "")


def test_the_shipped_settings_and_routes_load() -> None:
    """What ships is right."""
    settings = load()
    assert load_routes(SHIPPED / "routes", settings.templates_dir, frozenset({"accounting", "orders"}))


def test_an_unknown_key_names_the_one_that_was_meant(tmp_path: Path) -> None:
    """A slip of the pen is told with file, line and the nearest known key."""
    told = settings_error(tmp_path, '[smtp]\nhost = "127.0.0.1"\nprt = 25\n')
    assert told == "/postroom.toml:3: smtp.prt: unknown key; did you mean `port`?"


def test_a_wrong_type_shows_what_was_written(tmp_path: Path) -> None:
    """The value and the type that is wanted."""
    told = settings_error(tmp_path, '[web]\nport = "eighty"\n')
    assert told.startswith("/postroom.toml:2: web.port: wrong value, not 'eighty'; write a valid integer")


def test_a_bad_url_is_told(tmp_path: Path) -> None:
    """An endpoint that cannot be posted to stops the start."""
    told = settings_error(tmp_path, '[endpoint.accounting]\nurl = "ftp://books.example/in"\n')
    assert told == (
        "/postroom.toml:2: endpoint.accounting.url: 'ftp://books.example/in' is no URL that can be posted to;"
        " write https://host/path"
    )


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    """The TOML parser's place is passed on."""
    told = settings_error(tmp_path, "[web]\nport = \n")
    assert told.startswith("/postroom.toml:2: is not TOML:")


def test_a_missing_key_names_its_table(tmp_path: Path) -> None:
    """A mailbox without a user cannot be read."""
    told = settings_error(tmp_path, '\n[imap.support]\nhost = "mail.example"\n')
    assert told == "/postroom.toml:2: imap.support.user: is missing; add it"


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Nobody has to start three times to hear of three mistakes."""
    told = settings_error(tmp_path, '[web]\nport = 99999\nhots = "x"\n[smtp]\nmax_size = 1\n')
    assert len(told.splitlines()) == 3


def test_a_value_from_the_environment_is_named_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no file, the variable is the place."""
    monkeypatch.setenv("POSTROOM_WEB__PORT", "many")
    with pytest.raises(ConfigError, match="POSTROOM_WEB__PORT"):
        load()


def test_a_credential_is_read_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in systemd's credentials directory fills the key it is named after, and the environment outranks it."""
    (tmp_path / "smtp_out__password").write_text("from credential")
    (tmp_path / "smtp_out__user").write_text("robot")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("POSTROOM_SMTP_OUT__USER", "somebody")
    out = load().smtp_out
    assert out.password.get_secret_value() == "from credential"
    assert out.user == "somebody"


def test_a_missing_template_names_those_that_are_there(tmp_path: Path) -> None:
    """A route whose template is not there is refused before it answers anybody."""
    told = route_error(tmp_path, '[reply]\n\ntemplate = "invioce"\n')
    assert told.startswith("/10-test.toml:3: reply.template: template 'invioce' is missing (")
    assert "invoice" in told.split("use one of:")[1]


def test_a_bad_pattern_is_told(tmp_path: Path) -> None:
    """A regular expression that does not compile, with its place."""
    told = route_error(tmp_path, '[match]\nsubject = "(invoice"\n')
    assert told.startswith("/10-test.toml:2: match.subject: '(invoice' is no regular expression: missing )")


def test_a_bad_pattern_of_a_field_is_told(tmp_path: Path) -> None:
    """Deep keys have their line too."""
    field = '[labels.invoice.fields.number]\ndescription = "n"\npattern = "["\n'
    text = f'[labels.invoice]\nsays = "A demand for payment."\n{field}'
    told = route_error(tmp_path, text)
    assert told.startswith("/10-test.toml:5: labels.invoice.fields.number.pattern:")


def test_an_unknown_label_is_told(tmp_path: Path) -> None:
    """A reply for a label that nobody defined would never be sent."""
    told = route_error(tmp_path, '[labels.invoice]\nsays = "A demand for payment."\n[reply]\nnever = ["newsleter"]\n')
    assert "label 'newsleter' is used but not defined" in told
    assert "use one of: invoice" in told


def test_an_unknown_endpoint_says_what_to_add(tmp_path: Path) -> None:
    """A route cannot name an address that no admin has configured."""
    told = route_error(tmp_path, '[[deliver]]\nsmtp = "sender"\n[[deliver]]\nwebhook = "acounting"\n')
    assert told.startswith("/10-test.toml:4: deliver.1.webhook: endpoint 'acounting' is not configured; add [endpoint.")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[event]\ntemplate = "shp"\n', "/10-test.toml:2: event.template: template 'shp' is missing ("),
        ("[event]\n", "/10-test.toml:1: event: says nothing; set template, subject or [[event.documents]]"),
        ('[event]\nsubject = "$.["\n', "/10-test.toml:2: event.subject: '$.[' is no JSON path"),
        ('[[event.documents]]\nname = "$.n"\n', "needs exactly one of `base64`, `url` and `text`; write url ="),
        (
            '[[event.documents]]\nurl = "$.u"\ntext = "$.t"\n',
            "/10-test.toml:1: event.documents.0: needs exactly one of",
        ),
        ('[[event.documents]]\nurl = "$.u"\nnmae = "$.n"\n', "unknown key; did you mean `name`?"),
        (
            '[match]\nfile_type = "application/pdf"\n[event]\nsubject = "$.s"\n',
            "/10-test.toml:2: match.file_type: cannot choose a route with [event], whose documents are made after the"
            ' choice; write event = { "$.type" = "..." } under [match]',
        ),
    ],
)
def test_an_event_that_cannot_be_taken_apart_is_told(tmp_path: Path, text: str, said: str) -> None:
    """Paths, templates and what contradicts itself, with the line and what to write instead."""
    assert said in route_error(tmp_path, text)


def test_an_event_template_that_is_no_jinja_is_told(tmp_path: Path) -> None:
    """Its own file and line, before anything runs."""
    (tmp_path / "event").mkdir()
    (tmp_path / "event" / "shop.txt.j2").write_text("{{ event.a }}\n{% for x in %}\n")
    (tmp_path / "10-test.toml").write_text('[event]\ntemplate = "shop"\n')
    (tmp_path / "90-rest.toml").write_text(REST)
    with pytest.raises(ConfigError, match=r"event/shop\.txt\.j2:2: template error: .*; mend the Jinja2 syntax there"):
        load_routes(tmp_path, tmp_path, frozenset())


def test_the_last_route_has_to_catch_the_rest(tmp_path: Path) -> None:
    """First match wins, so something must match everything."""
    (tmp_path / "10-only.toml").write_text('[match]\nsource = "smtp"\n')
    with pytest.raises(ConfigError, match=r"no route catches the rest; add a last route file without \[match\]"):
        load_routes(tmp_path, TEMPLATES, frozenset())
