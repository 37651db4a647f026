"""Makes the pictures in docs/ from the demo's inputs: `python -m tests.pages.screenshots`.

An afternoon at the end of two weeks: the clock of this process is moved, nothing else is. Broker, worker, pages and what
they tell of each other are real; the model is a stand-in.
"""

from __future__ import annotations

import contextlib
import io
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from unittest import mock

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from config.settings import Settings
from daemon.demo.inputs import Expected
from daemon.demo.run import INPUTS
from daemon.embedded.broker import EmbeddedBroker
from tasks import pipeline
from tasks.models import Envelope, Kind
from tasks.workshop import Workshop
from tests.integration.worker_parts import begun, ended
from tests.pages.browsing import PASSWORD, USERS
from tests.pages.browsing import Browser as Visitor
from tests.pages.scenery import Desk, a_day, desk, web
from tests.standin_model import StandIn, standing_in

DOCS = Path(__file__).resolve().parents[2] / "docs"
WIDE, PHONE = (1200, 800), (390, 844)
COLOURS = 128
"""Of a picture: its commonest, of those that look alike the first, so that the grounds are what the style sheet says."""
EARLIER = (6, 4, 7, 9, 5, 2, 1, 8, 6, 7, 9, 5, 3)
"""Mails of each of the days before."""
KINDS = {"invoice": 5, "order": 4, "complaint": 2, "newsletter": 2, "other": 1}
WORKER = """
import json, sys
from config.settings import Settings
from tasks import log
from tasks.app import QUEUES
from tasks.worker import run_worker
settings = Settings.model_validate(json.loads(sys.argv[1]))
log.configure(settings, "worker")
run_worker(settings, QUEUES, 2, lambda: None, alive=lambda: print("ready", flush=True), canary=1)
"""
REPLY = (
    "Thank you for asking us about 200 crates. We have passed your request to our sales desk, and one of us will send "
    "you a quote with prices, the delivery time to Fernbank and the choice of sizes by the end of tomorrow. Goodbye."
)


class Clock:
    """The time of this process: three in the afternoon of today at the end, and earlier before."""

    def __init__(self) -> None:
        self._real = time.time_ns
        self.end = datetime.now().astimezone().replace(hour=15, minute=7, second=0)
        self._ahead = 0
        self.to(self.end)

    def to(self, moment: datetime) -> None:
        """Move to this time."""
        self._ahead = int(moment.timestamp() * 1e9) - self._real()

    def on(self, seconds: float) -> None:
        """Move on by so much."""
        self._ahead += int(seconds * 1e9)

    def time_ns(self) -> int:
        """In the place of time.time_ns."""
        return self._real() + self._ahead


def main() -> None:
    """Write docs/pages-NAME.png for each page, and some in the dark and on a phone."""
    clock = Clock()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(mock.patch("time.time_ns", clock.time_ns))
        model = stack.enter_context(standing_in("order"))
        model.has = ("qwen2.5-coder:1.5b",)
        made = stack.enter_context(desk(folder, model={"host": model.url}))
        made.judge.thinks = lambda: clock.on(random.Random(clock.time_ns()).uniform(9, 90))  # scenery
        _fortnight(made, clock)
        hours = iter(range(13))
        morning = clock.end.replace(hour=8, minute=12)
        a_day(made, slow=True, before=lambda: clock.to(morning + timedelta(minutes=31 * next(hours))))
        clock.to(clock.end)
        url = stack.enter_context(_served(made, folder))
        browser = stack.enter_context(_chromium())
        with _under_way(made, model):
            _pages(browser, url, made)
        _tried(browser, url)
        _guarded(browser, folder, clock)


def _pages(browser: Browser, url: str, made: Desk) -> None:
    invoice, order = made.jobs["01-invoice-pdf"], made.jobs["07-two-attachments"]
    today = f"{datetime.now().astimezone():%Y-%m-%d}"
    for name, address in {
        "today": "/",
        "jobs": f"/jobs?since={today}",
        "job": f"/jobs/{invoice}",
        "review": "/review",
        "decide": f"/review/{order}",
        "live": "/live",
        "routes": "/routes",
        "try": "/try",
    }.items():
        _shoot(browser, f"{url}/ui{address}", name, WIDE)
    _shoot(browser, f"{url}/ui/", "today-dark", WIDE, scheme="dark")
    _shoot(browser, f"{url}/ui/jobs/{invoice}", "job-dark", WIDE, scheme="dark")
    _shoot(browser, f"{url}/ui/jobs?since={today}", "jobs-phone", PHONE)
    _shoot(browser, f"{url}/ui/review/{order}", "decide-phone", PHONE)


@contextlib.contextmanager
def _served(made: Desk, folder: Path) -> Iterator[str]:
    """The web process, on a broker from which a worker takes; what came before was not given to it."""
    with EmbeddedBroker(folder / "broker") as broker, contextlib.ExitStack() as stack:
        told = made.settings.model_dump(mode="json") | {"broker_url": broker.url}
        worker = begun(WORKER, **told)
        stack.callback(ended, [worker])
        yield stack.enter_context(web(replace(made, settings=Settings.model_validate(told))))


@contextlib.contextmanager
def _chromium() -> Iterator[Browser]:
    with sync_playwright() as tool:
        browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield browser
        browser.close()


def _fortnight(made: Desk, clock: Clock) -> None:
    """Mails of the days before, all of them answered."""
    chance = random.Random(7)  # scenery
    for back, number in enumerate(reversed(EARLIER), start=1):
        for one in range(number):
            hour = 8 + (9 * one) // number
            clock.to(clock.end.replace(hour=hour, minute=chance.randrange(60)) - timedelta(days=back))
            label = chance.choices(list(KINDS), list(KINDS.values()))[0]
            name = f"earlier-{back}-{one}"
            made.mail(name, _mail(f"{label.capitalize()} {2000 + 10 * back + one}", name), Expected(label=label), 0.9)


def _mail(subject: str, key: str, text: str = "See attached.") -> bytes:
    head = f"From: Sam <sam@fernbank.example>\r\nTo: office@harbourlane.example\r\nSubject: {subject}\r\n"
    return f"{head}Message-ID: <{key}@fernbank.example>\r\n\r\n{text}\r\n".encode()


@contextlib.contextmanager
def _under_way(made: Desk, model: StandIn) -> Iterator[None]:
    """A job whose reply the model is writing, and one that was read and is next."""
    shop = Workshop.open(made.settings)  # with the judge that asks the model
    quote, note = (_accepted(made, name) for name in ("Quote for 200 crates", "Delivery note 5512"))
    for step in pipeline.STAGES[:3]:
        pipeline.run(shop, quote, step)
    for step in pipeline.STAGES[:2]:
        pipeline.run(shop, note, step)
    model.mode, model.says = "writes slowly", REPLY
    with contextlib.closing(shop), ThreadPoolExecutor(1) as pool:
        work = pool.submit(pipeline.run, shop, quote, pipeline.STAGES[3])
        deadline = time.monotonic() + 60
        while not any(job.progress.get("tail") for job in made.ledger.backlog.running(5)):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        yield
        model.woken.set()
        work.result(60)
    model.mode, model.woken = "well", threading.Event()


def _accepted(made: Desk, subject: str) -> str:
    key = subject.lower().replace(" ", "-")
    envelope = Envelope(
        source="smtp", kind=Kind.MAIL, key=key, sender="sam@fernbank.example",
        recipients=("office@harbourlane.example",), content_type="message/rfc822",
    )  # fmt: skip
    return made.intake.accept(envelope, _mail(subject, key, "Please send us a quote for 200 crates.")).job_id


def _tried(browser: Browser, url: str) -> None:
    """What the try-out tells of a file."""
    with _context(browser, WIDE) as context:
        page = context.new_page()
        page.goto(f"{url}/ui/try")
        page.get_by_label("File").set_input_files(INPUTS / "07-two-attachments" / "purchase-order-FB-7731.pdf")
        page.get_by_role("button", name="Try it").click()
        page.locator("#h-trip").wait_for()
        _save(page, "tried")


def _guarded(browser: Browser, folder: Path, clock: Clock) -> None:
    """The log-in, and who did what after it."""
    with desk(folder / "guarded", pages=USERS) as made, web(made) as url, _context(browser, WIDE) as context:
        _shoot(browser, f"{url}/ui/login", "login", (700, 460))
        jobs = [made.mail(name, _mail(name, name), Expected(label="order"), 0.55) for name in ("one", "two")]
        ben = Visitor(url)
        ben.log_in("ben", "wrong")
        clock.on(20)
        ben.log_in("ben")
        for job, (action, reason) in zip(jobs, (("approve", ""), ("reject", "ordered twice")), strict=True):
            clock.on(100)
            path = f"/review/{job.id}"
            ben.post(path, path, action=action, reason=reason, seen=str(job.lease_token), label="order")
        clock.on(1500)
        page = context.new_page()
        page.goto(f"{url}/ui/audit")
        page.get_by_label("Name").fill("anna")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("table").wait_for()
        _save(page, "audit")


@contextlib.contextmanager
def _context(browser: Browser, size: tuple[int, int], scheme: str = "light") -> Iterator[BrowserContext]:
    viewport = {"width": size[0], "height": size[1]}
    context = browser.new_context(viewport=viewport, color_scheme=scheme)  # type: ignore[arg-type]  # literals of theirs
    yield context
    context.close()


def _shoot(browser: Browser, address: str, name: str, size: tuple[int, int], scheme: str = "light") -> None:
    with _context(browser, size, scheme) as context:
        page = context.new_page()
        answer = page.goto(address, wait_until="load")
        assert getattr(answer, "ok", False), address
        for picture in page.locator("img.page").all():
            picture.scroll_into_view_if_needed()
        page.wait_for_timeout(500)
        page.evaluate("scrollTo(0, 0)")
        _save(page, name)


def _save(page: Page, name: str) -> None:
    shot = Image.open(io.BytesIO(page.screenshot(full_page=True))).convert("RGB")
    kept: dict[tuple[int, ...], tuple[int, ...]] = {}
    for _, colour in sorted(shot.getcolors(shot.width * shot.height), reverse=True):
        kept.setdefault(tuple(part >> 3 for part in colour), colour)
    palette = Image.new("P", (1, 1))
    palette.putpalette([part for colour in list(kept.values())[:COLOURS] for part in colour])
    small = shot.quantize(palette=palette, dither=Image.Dither.NONE)
    small.save(DOCS / f"pages-{name}.png", optimize=True)


if __name__ == "__main__":
    main()
