"""What the pages show and do, over real HTTP and without a browser."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from daemon.web.pages.charts import Bar, columns, nice, rows
from daemon.web.pages.evidence import pages_of
from daemon.web.pages.frame import in_words, size, span
from daemon.web.pages.live import Hub
from tasks.clock import now_ms
from tasks.models import Document, Field, Stage, State
from tests.conftest import envelope
from tests.pages.browsing import Browser
from tests.pages.scenery import Desk, desk, web
from tests.standin_model import standing_in

Shown = list[dict[str, Any]]
MAIL = b"From: Ada <ada@sender.example>\r\nTo: office@harbourlane.example\r\nSubject: {}\r\n\r\nPlease call me.\r\n"


def titles(page: httpx.Response) -> list[str]:
    return re.findall(r'<td class="what"><a href="[^"]+">([^<]+)</a>', page.text)


def test_the_list_is_searched_and_filtered(url: str) -> None:
    """By words from anywhere, by state, label and way in; and it says when nothing fits."""
    browser = Browser(url)
    assert titles(browser.get("/jobs?q=kestrel+yard+1284.60")) == ["Invoice NTH-20418"]
    assert titles(browser.get("/jobs?q=%3C20251014.nth20418%40northmoor.example%3E")) == ["Invoice NTH-20418"]
    assert titles(browser.get("/jobs?state=failed")) == ["Ihre Rechnung RE-2025-0937 für Oktober"]
    assert len(titles(browser.get("/jobs?label=invoice"))) == 2
    assert titles(browser.get("/jobs?source=webhook:shop")) == ["order from shop"]
    assert "Nothing fits" in browser.get("/jobs?q=nowheretobefound").text


def test_a_page_of_one_job_tells_everything(day: Desk, url: str) -> None:
    """Trip, values with their evidence where it stands, reply, and each delivery with its attempt and answer."""
    page = Browser(url).get(f"/jobs/{day.jobs['01-invoice-pdf']}").text
    for told in (
        "Northmoor Tool Hire Ltd",
        "page 1, line 21",
        "classify done",
        "thank you for your invoice",
        "mail to",
        "{&#34;taken&#34;: true}",
    ):
        assert told in page, told
    marked = re.findall(r"<mark[^>]*>(.*?)</mark>", page)
    assert any("evidence-total" in one and "£1,284.60" in one for one in marked)
    failed = Browser(url).get(f"/jobs/{day.jobs['04-rechnung-pdf']}").text
    assert "HTTP 404: there is no such endpoint" in failed


def test_the_raw_message_is_only_ever_saved(day: Desk, url: str) -> None:
    """Byte for byte, as a file of no type that a browser would show."""
    answer = Browser(url).get(f"/jobs/{day.jobs['03-complaint-html']}/raw")
    assert answer.content.startswith(b"From:")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith("attachment; ")
    assert answer.headers["content-security-policy"].startswith("sandbox")


def test_what_failed_is_sent_again(day: Desk, url: str) -> None:
    """The delivery that failed, under the same key; one that was sent stays."""
    job = f"/jobs/{day.jobs['04-rechnung-pdf']}"
    assert Browser(url).post(job, job, action="redeliver", delivery="1").status_code == 303
    assert day.go_on("04-rechnung-pdf").state is State.DONE
    again = Browser(url).post(job, job, action="redeliver", delivery="1")
    assert again.status_code == 409
    assert "all of it was sent" in again.text


def test_many_are_run_again_or_cancelled_at_once(tmp_path: Path) -> None:
    """Those that were chosen, and the page says how many; an ended one is not cancelled."""
    with desk(tmp_path) as made, web(made) as url:
        browser = Browser(url)
        for name in ("a", "b", "c"):
            made.mail(name, MAIL.replace(b"{}", name.encode()))
        chosen = [made.jobs["a"], made.jobs["b"]]
        form = {"csrf": browser.token("/jobs"), "job": chosen[:1], "action": "retry"}
        assert "1 job will run again" in browser.http.post("/ui/jobs", data=form, follow_redirects=True).text
        form["job"] = chosen
        answer = browser.http.post("/ui/jobs", data=form, follow_redirects=True)
        assert "2 jobs will run again" in answer.text
        form = {"csrf": browser.token("/jobs"), "job": [*chosen, made.jobs["c"]], "action": "cancel"}
        answer = browser.http.post("/ui/jobs", data=form, follow_redirects=True)
        assert "2 jobs were cancelled, 1 was left as before" in answer.text
        assert [made.job(name).state.value for name in "abc"] == ["cancelled", "cancelled", "done"]


def test_numbers_are_told_as_people_say_them() -> None:
    """One of a thing, and more of it; a count of jobs before their state."""
    assert [size(1), size(2), span(1000), span(7_200_000)] == ["1 byte", "2 bytes", "1 second", "2 hours"]
    assert [in_words("review"), in_words("review", 2), in_words("done", 2)] == [
        "needs a decision",
        "need a decision",
        "done",
    ]


def test_today_counts_what_came(url: str) -> None:
    """Figures, charts that speak, and health in plain words."""
    page = Browser(url).get("/").text
    assert "<strong>10</strong> <span>arrived today</span>" in page
    assert "<strong>2</strong> <span>need a decision</span>" in page
    assert 'aria-label="Labels, last 7 days: ' in page
    assert "invoice 2" in page
    assert "<strong>Queue</strong> redis://127.0.0.1:9/0" in page


def test_routes_are_told_with_what_they_took(url: str) -> None:
    """In their order, with their labels and where results go."""
    page = Browser(url).get("/routes").text
    assert page.index('id="route-shop"') < page.index('id="route-post"') < page.index('id="route-rest"')
    assert "8 in the last 7 days" in page
    assert "webhook results" in page


def test_a_file_is_tried_out_and_nothing_is_stored(tmp_path: Path) -> None:
    """The whole trip, on the page; the ledger has no job afterwards."""
    routes = tmp_path / "plain"
    routes.mkdir()
    (routes / "10-all.toml").write_text('[[deliver]]\nwebhook = "results"\n')
    with desk(tmp_path, routes_dir=routes) as made, web(made) as url:
        browser = Browser(url)
        form = {"csrf": browser.token("/try"), "source": "smtp"}
        page = browser.http.post("/ui/try", data=form, files={"file": ("a/../<b>.eml", MAIL, "message/rfc822")}).text
        assert "Would go by webhook to results" in page
        assert "Please call me." in page
        assert "<b>" not in page
        assert browser.http.post("/ui/try", data=form).status_code == 400
        assert made.ledger.jobs.counts() == {}


@contextmanager
def watching(url: str) -> Iterator[Iterator[Shown]]:
    """The states that a live stream tells, one after the other."""

    def told(answer: httpx.Response) -> Iterator[Shown]:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])["jobs"]

    with httpx.stream("GET", f"{url}/ui/live/events", timeout=60, trust_env=False) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        yield told(answer)


def test_the_live_page_follows_tokens(tmp_path: Path) -> None:
    """From the moment a worker has it, word by word, until it has gone; two watchers see the same."""
    with desk(tmp_path) as made, web(made) as url, watching(url) as one, watching(url) as other:
        assert next(one) == next(other) == []
        job_id = made.intake.accept(envelope("live"), MAIL).job_id
        until(one, lambda jobs: [job["id"] for job in jobs] == [job_id])
        claimed = made.ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, made.shop.owner)
        assert claimed
        made.ledger.leases.beat([(claimed[1], {"phase": "label", "tokens": 7})])
        for stream in (one, other):
            [job] = until(stream, lambda jobs: bool(jobs) and jobs[0]["tokens"] == 7)
            assert (job["phase"], job["words"]) == ("label", "being read")
        made.ledger.jobs.cancel(job_id, why="test")
        until(one, lambda jobs: not jobs)


def test_the_live_page_tells_each_change_to_each(tmp_path: Path) -> None:
    """Twelve changes, one after the other is told: every watcher gets every event, in order and once."""
    with desk(tmp_path) as made, web(made) as url, contextlib.ExitStack() as stack:
        watchers = [stack.enter_context(numbered(url)) for _ in range(5)]
        for one in watchers:
            next(one)
        made.intake.accept(envelope("live"), MAIL)
        claimed = made.ledger.leases.claim(
            made.ledger.jobs.page()[0].id, Stage.EXTRACT, State.EXTRACTING, made.shop.owner
        )
        assert claimed
        seen: list[list[tuple[int, int]]] = [[] for _ in watchers]
        for tokens in range(1, 13):
            made.ledger.leases.beat([(claimed[1], {"phase": "reply", "tokens": tokens})])
            while not seen[0] or seen[0][-1][1] != tokens:
                seen[0].append(next(watchers[0]))
        for told, stream in zip(seen[1:], watchers[1:], strict=True):  # these did not read meanwhile
            while not told or told[-1][1] != 12:
                told.append(next(stream))
        for told in seen:
            ids = [event for event, _ in told]
            assert ids == list(range(ids[0], ids[0] + len(ids)))
            assert [tokens for _, tokens in told if tokens] == list(range(1, 13))


@contextmanager
def numbered(url: str) -> Iterator[Iterator[tuple[int, int]]]:
    """The events of a live stream: the id, and the most tokens that a job has."""

    def told(answer: httpx.Response) -> Iterator[tuple[int, int]]:
        event = 0
        for line in answer.iter_lines():
            if line.startswith("id: "):
                event = int(line[4:])
            elif line.startswith("data: "):
                yield event, max((job["tokens"] for job in json.loads(line[6:])["jobs"]), default=0)

    with httpx.stream("GET", f"{url}/ui/live/events", timeout=60, trust_env=False) as answer:
        yield told(answer)


def test_one_who_reads_late_gets_what_was_kept(tmp_path: Path) -> None:
    """The hub keeps the last events for who is behind, and whoever begins gets the newest alone."""
    with desk(tmp_path) as made:
        hub = Hub(made.ledger, threading.Event())

        async def read() -> list[list[bytes]]:
            slow, late = hub.frames(), hub.frames()
            found: list[list[bytes]] = [[await anext(slow), await anext(slow)], []]
            hub._frames.clear()
            for version in range(hub._version + 1, hub._version + 6):
                hub._frames.append((version, b"%d" % version))
                hub._version = version
            found[0] += [await anext(slow) for _ in range(5)]
            found[1] += [await anext(late), await anext(late)]
            hub._stop.set()
            await slow.aclose()  # type: ignore[attr-defined]  # a generator
            await late.aclose()  # type: ignore[attr-defined]  # a generator
            return found

        slow, late = asyncio.run(read())
        assert slow[2:] == [b"2", b"3", b"4", b"5", b"6"]
        assert late[1:] == [b"6"]


def test_breakers_are_told_in_plain_words(tmp_path: Path) -> None:
    """What workers have trouble with, since when and what that means for jobs; then that it is over."""
    with desk(tmp_path) as made, web(made) as url:
        name, now = f"smtp:{made.settings.smtp_out.host}:{made.settings.smtp_out.port}", now_ms()
        made.ledger.outages.failed(name, now - 300_000, now, "connection refused", settle_ms=0, open_until=now + 60_000)
        deadline = time.monotonic() + 60
        while "Still looking" in (page := Browser(url).get("/").text):
            assert time.monotonic() < deadline
        assert (
            "<strong>The mail server 127.0.0.1:25</strong> has not worked for 5 minutes: connection refused; workers"
            in page
        )
        assert "lose no attempt" in page
        assert "no trouble with the model server http://" in page


def test_the_tryout_asks_the_configured_model(tmp_path: Path) -> None:
    """Over HTTP, as workers do: its label, its share, its words in the reply; one that is away is told."""
    with standing_in("order") as model, desk(tmp_path, model={"host": model.url}) as made, web(made) as url:
        browser = Browser(url)
        form = {"csrf": browser.token("/try"), "source": "smtp"}
        page = browser.http.post("/ui/try", data=form, files={"file": ("a.eml", MAIL, "message/rfc822")}).text
        assert model.asked >= 2
        assert "order" in page
        assert re.search(r"Route post,\s+100\s%", re.sub(r"<[^>]+>", "", page))
        assert "Thank you for your message. We are looking into it." in page
        assert made.ledger.jobs.counts() == {}
        model.mode = "out of memory"
        answer = browser.http.post("/ui/try", data=form, files={"file": ("a.eml", MAIL, "message/rfc822")})
        assert answer.status_code in (409, 503)
        assert "system memory" in answer.text or "try again" in answer.text


def until(stream: Iterator[Shown], holds: Callable[[Shown], bool]) -> Shown:
    deadline = time.monotonic() + 60
    for jobs in stream:
        if holds(jobs):
            return jobs
        assert time.monotonic() < deadline
    raise AssertionError("the stream ended")


def test_evidence_is_marked_where_it_stands() -> None:
    """On its page and line though the same words stand elsewhere, over line breaks, and nested in other evidence."""
    text = "Total 5\nnothing\fTotal 5\nHill\nLtd, no. 7"
    document = Document(ordinal=1, name="a", content_type="text/plain", size=1, sha256="", text=text, pages=2)
    fields = [
        Field(name="total", value="5", quote="Total 5", document=1, page=2, line=1, supported=True),
        Field(name="vendor", value="Hill Ltd", quote="Hill Ltd, no. 7", document=1, page=2, line=2, supported=True),
        Field(name="number", value="7", quote="no. 7", document=1, page=2, line=3, supported=True),
        Field(name="other", value="5", quote="Total 5", document=0, page=1, line=1, supported=True),
        Field(name="gone", value="x", quote="not there", document=1, page=9, line=9),
    ]
    first, second = pages_of(document, fields)
    assert [(piece.text, piece.fields) for piece in first] == [("Total 5\nnothing", ())]
    assert [(piece.text, piece.fields) for piece in second] == [
        ("Total 5", ("total",)),
        ("\n", ()),
        ("Hill\nLtd, ", ("vendor",)),
        ("no. 7", ("vendor", "number")),
    ]
    assert [piece.begins for piece in second] == [("total",), (), ("vendor",), ("number",)]


@pytest.mark.parametrize(
    ("number", "end"), [(0, 1), (1, 1), (2, 2), (3, 4), (11, 20), (39, 40), (41, 100), (1000, 1000)]
)
def test_an_axis_ends_at_a_round_number(number: int, end: int) -> None:
    """Never below the highest bar."""
    assert nice(number) == end


def test_charts_escape_their_words() -> None:
    """A label is somebody's text."""
    bad = "<script>\"'"
    for chart in (columns(bad, [Bar(bad, bad, (1,))], (bad,)), rows(bad, [Bar(bad, bad, (2,))])):
        assert "<script>" not in chart
        assert 'aria-label="&lt;script&gt;&#34;' in chart


def test_a_ledger_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """As a page with a word on what to do, not as an error of the program."""
    with desk(tmp_path) as made, web(made) as url:
        browser = Browser(url)
        assert browser.get("/jobs").status_code == 200
        with made.ledger.database.write() as connection:
            connection.exec_driver_sql("ALTER TABLE jobs RENAME TO gone")
        answer = browser.get(f"/jobs?since={now_ms() % 10}")
        assert answer.status_code == 503
        assert "Nothing is lost" in answer.text
