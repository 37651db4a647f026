"""A hundred hostile mails, file names and values on every page: no script runs, and nothing is asked of anybody else."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from email.message import EmailMessage
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser

from daemon.demo.inputs import Expected
from tests.pages.scenery import Desk, desk, web

FULL = os.environ.get("POSTROOM_TEST_FULL") == "1"
RUN = "parent.pwned=window.pwned=1"
BREAKS = ("", '">', "'>", "</textarea>", "</title>", "</pre>", "</script>", "-->", "]]>", "{{7*7}}{%raw%}")
CODE = (
    f"<script>{RUN}</script>",
    f"<img src=x onerror={RUN}>",
    f"<svg onload={RUN}><image href=http://evil.example/p.png>",
    f"<iframe srcdoc='<script>{RUN}</script>'></iframe>",
    f"<a href=javascript:{RUN} autofocus onfocus={RUN}>x</a>",
    '<link rel=stylesheet href=http://evil.example/a.css><img src="//evil.example/p.png">',
    f"<details open ontoggle={RUN}><math><mi//xlink:href='data:x,<script>{RUN}</script>'>",
    "<style>@import 'http://evil.example/a.css';body{background:url(http://evil.example/b)}</style>",
    "<meta http-equiv=refresh content='0;url=http://evil.example/'><base href=http://evil.example/>",
    f"<form action=http://evil.example><button formaction=javascript:{RUN} id=csrf name=csrf>",
)
PAYLOADS = [begin + code for begin, code in itertools.product(BREAKS, CODE)]
WATCH = "addEventListener('securitypolicyviolation', event => { window.violated = event.violatedDirective })"


def mail(number: int, payloads: list[str]) -> bytes:
    """A mail that has them in its header, its text, its HTML, a file's name and a file."""
    made = EmailMessage()
    head = [" ".join(one.split()) for one in payloads]
    made["From"] = f'"{head[0].translate({34: 39, 92: 47})}" <a{number}@sender.example>'
    made["To"] = "office@harbourlane.example"
    made["Subject"] = head[-1]
    made["Message-ID"] = f"<{number}@sender.example>"
    if number % 2:
        made.set_content("\n".join(payloads))
    else:
        made.set_content("\n".join(f"<p>{one}</p>" for one in payloads), subtype="html")
    name = head[0].replace("/", "_")
    made.add_attachment("\n".join(payloads).encode(), maintype="text", subtype="plain", filename=f"{name}.txt")
    return made.as_bytes()


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, str]]:
    """All payloads are in the ledger: one a mail in the long run, else twenty."""
    with desk(tmp_path_factory.mktemp("attacked")) as made, web(made) as url:
        each = 1 if FULL else 20
        for number, start in enumerate(range(0, len(PAYLOADS), each)):
            payloads = PAYLOADS[start : start + each]
            values = {"vendor": payloads[0], "number": payloads[-1], "total": "1.00"}
            confidence = 0.5 if number % 2 else 0.93
            made.mail(f"m{number}", mail(number, payloads), Expected(label="invoice", fields=values), confidence)
            made.ledger.visitors.note(payloads[0], payloads[-1], "login failed", why=payloads[0])
        yield made, url


def test_there_are_a_hundred() -> None:
    """Each another."""
    assert len(set(PAYLOADS)) == 100


@pytest.mark.timeout(3600 if FULL else 300)
def test_nothing_of_theirs_runs_or_calls(attacked: tuple[Desk, str], browser: Browser) -> None:
    """Not on a list, a job, a decision, in search, in a frame with their HTML; no policy had to stop anything."""
    made, url = attacked
    context = browser.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    asked: set[str] = set()
    page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
    page.on("dialog", lambda dialog: pytest.fail(f"a dialog: {dialog.message}"))
    paths = ["/", "/jobs", "/review", "/live", "/audit", "/routes", "/jobs?q=script"]
    for job_id in made.jobs.values():
        paths += [f"/jobs/{job_id}", f"/review/{job_id}", f"/jobs/{job_id}/html"]
    for path in paths:
        page.goto(f"{url}/ui{path}", wait_until="domcontentloaded")
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        page.wait_for_load_state("load")
        seen = page.evaluate(
            "[window.pwned, window.violated, document.querySelectorAll('[onerror],[onload],[onfocus]').length]"
        )
        assert seen == [None, None, 0], path
        assert page.evaluate("[...document.scripts].every(one => one.src.startsWith(location.origin))"), path
    context.close()
    assert asked == {urlsplit(url).netloc}


def test_the_words_themselves_are_there_to_read(attacked: tuple[Desk, str], browser: Browser) -> None:
    """Escaped is not lost: a reviewer sees what was written."""
    made, url = attacked
    page = browser.new_page()
    page.goto(f"{url}/ui/jobs/{made.jobs['m1']}")
    assert CODE[-1 if not FULL else 1] in page.inner_text("body")
    page.close()


@pytest.mark.timeout(3600 if FULL else 300)
def test_try_out_and_search_give_back_nothing_that_runs(attacked: tuple[Desk, str], browser: Browser) -> None:
    """What comes from the address is escaped as well."""
    context = browser.new_context()
    context.add_init_script(WATCH)
    page = context.new_page()
    for payload in PAYLOADS[:: 1 if FULL else 17]:
        for parameters in ({"q": payload}, {"q": "x", "label": payload, "since": payload}, {"done": payload}):
            target = f"{attacked[1]}/ui/jobs"
            page.goto(f"{target}?{'&'.join(f'{name}={_quoted(value)}' for name, value in parameters.items())}")
            assert page.evaluate("[window.pwned, window.violated]") == [None, None], parameters
    context.close()


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())
