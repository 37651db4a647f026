"""The pages in Debian's Chromium: every page and action, light and dark, wide and narrow, without barriers."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tasks import pipeline
from tasks.workshop import Workshop
from tests.conftest import envelope
from tests.pages.browsing import PASSWORD, USERS
from tests.pages.conftest import PATIENCE
from tests.pages.scenery import Desk, desk, web
from tests.standin_model import standing_in

FULL = os.environ.get("POSTROOM_TEST_FULL") == "1"
AXE = Path(axe_playwright_python.__file__).with_name("axe.min.js")
LOOKS = {"wide": ("light", 1280, 900), "dark": ("dark", 1280, 900), "phone": ("light", 390, 844)}
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A tab that fails the test for what the console calls an error."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    yield quiet(context)
    context.close()


def quiet(context: BrowserContext) -> Page:
    tab = context.new_page()
    tab.on("pageerror", lambda error: pytest.fail(f"a script failed: {error}"))
    tab.on("console", lambda message: _no_error(message.type, message.text))
    return tab


def _no_error(kind: str, text: str) -> None:
    if kind == "error" and "the server responded with a status of 4" not in text:
        pytest.fail(f"the console says: {text}")


def addresses(day: Desk) -> dict[str, str]:
    return {
        "today": "/ui/",
        "jobs": "/ui/jobs",
        "job": f"/ui/jobs/{day.jobs['01-invoice-pdf']}",
        "failed job": f"/ui/jobs/{day.jobs['04-rechnung-pdf']}",
        "mail with HTML": f"/ui/jobs/{day.jobs['03-complaint-html']}",
        "review": "/ui/review",
        "decide": f"/ui/review/{day.jobs['07-two-attachments']}",
        "live": "/ui/live",
        "routes": "/ui/routes",
        "try": "/ui/try",
        "audit": "/ui/audit",
        "nowhere": "/ui/nowhere",
        "login": "/ui/login",
    }


@pytest.mark.parametrize("look", LOOKS if FULL else ["phone"])
def test_no_page_has_barriers(day: Desk, url: str, browser: Browser, look: str) -> None:
    """axe finds nothing, be it serious or not; nothing is wider than the window; and everything comes from us."""
    scheme, width, height = LOOKS[look]
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": height})  # type: ignore[arg-type]  # a literal of theirs
    page, found = quiet(context), {}
    strangers: list[str] = []
    page.on("request", lambda request: None if request.url.startswith(url) else strangers.append(request.url))
    for name, address in addresses(day).items():
        page.goto(url + address)
        page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        page.evaluate(AXE.read_text("utf-8"))
        result = page.evaluate("rules => axe.run(document, rules)", RULES)
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        told = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in result["violations"]]
        if told or wide:
            found[name] = [*told, *(["wider than the window"] if wide else [])]
    context.close()
    assert found == {}
    assert strangers == []


def test_a_newcomer_finds_the_total_in_two_clicks(url: str, page: Page) -> None:
    """From the address that the demo prints: the list, the job, and there it stands; a third click shows it marked."""
    page.goto(f"{url}/")
    page.get_by_role("link", name="Jobs", exact=True).click()
    page.get_by_role("link", name="Invoice NTH-20418", exact=True).click()
    row = page.get_by_role("row", name="total 1284.60")
    expect(row).to_be_in_viewport()
    row.get_by_role("link").click()
    expect(page.locator("mark", has_text="£1,284.60")).to_be_in_viewport()
    picture = page.locator("img.page").first
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("naturalWidth", 1000)


def test_searching_and_acting_on_many(tmp_path: Path, page: Page) -> None:
    """Words and a filter narrow the list; all on the page are chosen with one tick and cancelled with one click."""
    with desk(tmp_path) as made, web(made) as url:
        for number in range(3):
            made.mail(
                f"m{number}", f"From: a@b.example\r\nSubject: Paper {number}\r\n\r\nhello\r\n".encode(), confidence=0.5
            )
        page.goto(f"{url}/ui/jobs")
        page.get_by_label("Search").fill("paper 2")
        page.get_by_role("button", name="Show").click()
        expect(page.locator(".list tbody tr")).to_have_count(1)
        page.get_by_role("link", name="Clear").click()
        page.get_by_label("State").select_option("review")
        page.get_by_role("button", name="Show").click()
        page.get_by_label("Choose all on this page").check()
        page.get_by_role("button", name="Cancel chosen").click()
        expect(page.get_by_role("status")).to_have_text("3 jobs were cancelled")
        assert {made.job(name).state.value for name in made.jobs} == {"cancelled"}


def test_fifty_in_a_row_by_keyboard(tmp_path: Path, page: Page) -> None:
    """Log in, then one key a case: approve, reject with a reason, correct a value, skip; no mouse."""
    number = 50 if FULL else 8
    with desk(tmp_path, pages=USERS) as made, web(made) as url:
        for one in range(number):
            mail = f"From: a@b.example\r\nTo: office@harbourlane.example\r\nSubject: Case {one:02}\r\n\r\nInvoice R-{one}\r\n"
            made.mail(f"case {one:02}", mail.encode(), confidence=0.5)
        page.goto(f"{url}/ui/review")
        expect(page.get_by_label("Name")).to_be_focused()
        page.keyboard.type("ben")
        page.keyboard.press("Tab")
        page.keyboard.type(PASSWORD)
        page.keyboard.press("Enter")
        page.wait_for_url("**/ui/review")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        for one in range(number):
            expect(page.get_by_role("heading", level=1)).to_have_text(f"Case {one:02}")
            page.wait_for_load_state()  # keys are heard once the script runs
            if one == 1:
                page.keyboard.press("r")
                page.keyboard.type("not ours")
                page.keyboard.press("Escape")
                page.keyboard.press("x")
            elif one == 2:
                page.keyboard.press("t")
                page.keyboard.type("In my own words. ")
                page.keyboard.press("Escape")
                page.keyboard.press("a")
            else:
                page.keyboard.press("a")
        expect(page.get_by_role("heading", level=1)).to_have_text("Nothing waits for a decision")
        assert made.job("case 01").reason == "not ours"
        assert made.ledger.decisions.of(made.jobs["case 02"])[0].reply_text.startswith("In my own words.")
        assert len(list(made.ledger.decisions.all())) == number
        page.get_by_role("button", name="Log out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")


def test_a_job_is_run_again_from_its_page(tmp_path: Path, page: Page) -> None:
    """From the stage that is chosen; then it is cancelled; each is told."""
    with desk(tmp_path) as made, web(made) as url:
        made.mail("m", b"From: a@b.example\r\nSubject: Hello\r\n\r\nhello\r\n")
        page.goto(f"{url}/ui/jobs/{made.jobs['m']}")
        page.get_by_label("Begin with").select_option("classify")
        page.get_by_role("button", name="Run again").click()
        expect(page.get_by_role("status")).to_have_text("The job runs again.")
        assert made.job("m").state.value == "classifying"
        page.get_by_role("button", name="Cancel").click()
        expect(page.get_by_role("status")).to_have_text("The job is cancelled.")


def test_the_live_page_moves_by_itself(tmp_path: Path, page: Page) -> None:
    """What arrives appears without a reload."""
    with desk(tmp_path) as made, web(made) as url:
        page.goto(f"{url}/ui/live")
        expect(page.get_by_text("Nothing is under way")).to_be_visible()
        made.judge.confidence = 0.9
        raw = b"From: a@b.example\r\nSubject: Hello\r\n\r\nhello\r\n"
        made.intake.accept(envelope("x", name="<b>bold</b>"), raw)
        expect(page.get_by_role("link", name="<b>bold</b>")).to_be_visible()
        page.goto(f"{url}/ui/")  # leaves the stream, so that the server can end


def test_what_the_model_writes_is_shown_as_it_writes(tmp_path: Path, page: Page, browser: Browser) -> None:
    """Its last words under the job, as text, with scripts and without; when the stage has ended they are gone."""
    raw = b"From: a@b.example\r\nTo: office@harbourlane.example\r\nSubject: Hello\r\n\r\nhello\r\n"
    with standing_in("other") as model, desk(tmp_path, model={"host": model.url}) as made, web(made) as url:
        model.mode = "writes slowly"
        model.says = f"{'So we wrote. ' * 60}<img src=x onerror=window.pwned=1> Thank you. Bye."
        page.goto(f"{url}/ui/live")
        job_id = made.intake.accept(envelope("x", content_type="message/rfc822", sender="a@b.example"), raw).job_id
        shop = Workshop.open(made.settings)  # with the judge that asks the model
        with contextlib.closing(shop), ThreadPoolExecutor(1) as pool:
            work = pool.submit(lambda: [pipeline.run(shop, job_id, step) for step in pipeline.STAGES[:4]])
            tail = page.locator(".tail")
            try:
                expect(tail).to_contain_text('"The sender wants an')
                held, model.woken = model.woken, threading.Event()
                held.set()
                expect(tail).to_have_text(re.compile(r"^.{200,300}<img src=x onerror=window\.pwned=1> Thank you\.$"))
                plain = browser.new_context(java_script_enabled=False).new_page()
                plain.goto(f"{url}/ui/live")
                expect(plain.locator(".tail")).to_have_text(tail.inner_text())
                plain.context.close()
            finally:
                model.mode = "well"
                model.woken.set()
            assert work.result(60)[-1]
        expect(tail).to_be_hidden()
        expect(page.get_by_role("row", name="Hello")).to_contain_text("being sent")
        assert page.evaluate("window.pwned") is None
        page.goto(f"{url}/ui/")  # leaves the stream, so that the server can end


def test_without_scripts_everything_can_be_read_and_decided(tmp_path: Path, browser: Browser) -> None:
    """Listing, looking and approving need none."""
    with desk(tmp_path) as made, web(made) as url:
        made.mail("m", b"From: a@b.example\r\nSubject: Hello\r\n\r\nhello\r\n", confidence=0.5)
        context = browser.new_context(java_script_enabled=False)
        tab = context.new_page()
        tab.goto(f"{url}/ui/review")
        tab.get_by_role("link", name="Begin with the oldest").click()
        tab.get_by_role("button", name="Approve").click()
        expect(tab.get_by_role("status")).to_have_text("Approved: Hello")
        assert made.job("m").state.value == "replying"
        context.close()
