"""Makes the pictures in docs/ from the demo's inputs: `python -m tests.pages.screenshots`."""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from daemon.demo.inputs import Expected
from daemon.demo.run import INPUTS
from tasks.models import Envelope, Kind, Stage, State
from tests.pages.browsing import USERS
from tests.pages.scenery import Desk, a_day, desk, web
from tests.standin_model import standing_in

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIDE, PHONE = (1200, 800), (390, 844)
COLOURS = 128


def main() -> None:
    """Write docs/pages-NAME.png for each page, and some in the dark and on a phone."""
    with (
        tempfile.TemporaryDirectory() as folder,
        standing_in("order") as model,
        desk(Path(folder)) as made,
        web(made) as url,
        desk(Path(folder) / "trying", model={"host": model.url}) as trying,
        web(trying) as trying_url,
        desk(Path(folder) / "guarded", pages=USERS) as guarded,
        web(guarded) as guarded_url,
        sync_playwright() as tool,
    ):
        a_day(made, slow=True)
        _one_under_way(made)
        made.ledger.visitors.note("anna", "192.0.2.17", "logged in")
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        invoice, order = made.jobs["01-invoice-pdf"], made.jobs["07-two-attachments"]
        for name, address in {
            "today": "/",
            "jobs": "/jobs",
            "job": f"/jobs/{invoice}",
            "review": "/review",
            "decide": f"/review/{order}",
            "live": "/live",
            "routes": "/routes",
            "try": "/try",
            "audit": "/audit",
        }.items():
            _shoot(browser, f"{url}/ui{address}", name, WIDE)
        _shoot(browser, f"{url}/ui/", "today-dark", WIDE, scheme="dark")
        _shoot(browser, f"{url}/ui/jobs/{invoice}", "job-dark", WIDE, scheme="dark")
        _shoot(browser, f"{url}/ui/jobs", "jobs-phone", PHONE)
        _shoot(browser, f"{url}/ui/review/{order}", "decide-phone", PHONE)
        _shoot(browser, f"{guarded_url}/ui/login", "login", (700, 460))
        _tried(browser, trying_url)
        browser.close()


def _tried(browser: Browser, url: str) -> None:
    """What the try-out tells of a file."""
    context = browser.new_context(viewport={"width": WIDE[0], "height": WIDE[1]})
    page = context.new_page()
    page.goto(f"{url}/ui/try")
    page.get_by_label("File").set_input_files(INPUTS / "07-two-attachments" / "purchase-order-FB-7731.pdf")
    page.get_by_role("button", name="Try it").click()
    page.locator("#h-trip").wait_for()
    _save(page, "tried")
    context.close()


def _one_under_way(made: Desk) -> None:
    """A job in a worker's hands, and one that is next."""
    for name in ("Quote for 200 crates", "Delivery note 5512"):
        key = name.lower().replace(" ", "-")
        mail = f"From: Sam <sam@fernbank.example>\r\nSubject: {name}\r\n\r\nSee attached.\r\n".encode()
        envelope = Envelope(
            source="smtp", kind=Kind.MAIL, key=key, sender="sam@fernbank.example", content_type="message/rfc822"
        )
        made.judge.expected = Expected()
        job_id = made.intake.accept(envelope, mail).job_id
        with made.ledger.database.write() as connection:
            connection.exec_driver_sql("UPDATE jobs SET subject = ? WHERE id = ?", (name, job_id))
        if name.startswith("Quote"):
            claimed = made.ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, made.shop.owner)
            assert claimed
            done = {"stage": "classify", "state": "classifying", "subject": name}
            made.ledger.leases.finish(claimed[1], value={"mail": None}, job=done, event="extract done", detail={})
            claimed = made.ledger.leases.claim(job_id, Stage.CLASSIFY, State.CLASSIFYING, made.shop.owner)
            assert claimed
            made.ledger.leases.beat([(claimed[1], {"phase": "fields", "tokens": 87})])


def _shoot(browser: Browser, address: str, name: str, size: tuple[int, int], scheme: str = "light") -> None:
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]  # literals of theirs
    page = context.new_page()
    page.goto(address, wait_until="load")
    for picture in page.locator("img.page").all():
        picture.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.evaluate("scrollTo(0, 0)")
    _save(page, name)
    context.close()


def _save(page: Page, name: str) -> None:
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True)))
    small = shot.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(DOCS / f"pages-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
