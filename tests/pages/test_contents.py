"""What a stranger's message holds: shown harmless, saved and never run."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

import pytest
from PIL import Image

from daemon.demo.run import INPUTS
from daemon.web.pages.contents import harmless
from tasks.errors import Unreadable
from tasks.readers.picture import picture
from tests.pages.browsing import Browser
from tests.pages.scenery import Desk, desk, web

FULL = os.environ.get("POSTROOM_TEST_FULL") == "1"
INVOICE = INPUTS / "01-invoice-pdf" / "invoice-NTH-20418.pdf"
HTML = b"""From: Ada <ada@sender.example>
To: office@harbourlane.example
Subject: Hello
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/html; charset=utf-8

<p onclick="x()">Hi <b>you</b></p><script>alert(1)</script><img src="http://evil.example/pixel.png">
<a href="javascript:x()">click</a><style>p { background: url(http://evil.example/) }</style>
--b
Content-Type: text/html; name="page.html"
Content-Disposition: attachment; filename="page.html"

<script>alert(2)</script>
--b--
""".replace(b"\n", b"\r\n")


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Desk, Browser]]:
    with desk(tmp_path_factory.mktemp("contents")) as made, web(made) as url:
        made.mail("html", HTML)
        made.mail("pdf", _with_pdf())
        yield made, Browser(url)


def _with_pdf() -> bytes:
    from email.message import EmailMessage  # noqa: PLC0415  # only to write one

    mail = EmailMessage()
    mail["From"], mail["To"], mail["Subject"] = "ada@sender.example", "office@harbourlane.example", "Bill"
    mail.set_content("See there.")
    mail.add_attachment(INVOICE.read_bytes(), maintype="application", subtype="pdf", filename='in"v\u00f6ice.pdf')
    return mail.as_bytes()


def test_html_is_shown_without_what_runs_loads_or_leads_anywhere(opened: tuple[Desk, Browser]) -> None:
    """Words and their form stay; the frame has an origin of its own and may load nothing."""
    made, browser = opened
    answer = browser.get(f"/jobs/{made.jobs['html']}/html")
    assert "<p>Hi <b>you</b></p>" in answer.text
    assert "click" in answer.text
    for word in ("script", "alert", "evil.example", "onclick", "javascript", "<img", "<a", "<style"):
        assert word not in answer.text
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    page = browser.get(f"/jobs/{made.jobs['html']}").text
    assert '<iframe class="mail" sandbox=""' in page


def test_attachments_are_saved_and_never_shown(opened: tuple[Desk, Browser]) -> None:
    """Whatever type they claim; with their name, which cannot break out of its header."""
    made, browser = opened
    answer = browser.get(f"/jobs/{made.jobs['html']}/documents/1")
    assert answer.content == b"<script>alert(2)</script>"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"].startswith('attachment; filename="page.html"')
    pdf = browser.get(f"/jobs/{made.jobs['pdf']}/documents/1")
    assert pdf.content == INVOICE.read_bytes()
    assert "%C3%B6ice.pdf" in pdf.headers["content-disposition"]
    assert browser.get(f"/jobs/{made.jobs['html']}/documents/9").status_code == 404


def test_a_page_is_shown_as_a_picture(opened: tuple[Desk, Browser]) -> None:
    """Drawn in a child process; what is no page is told."""
    made, browser = opened
    where = f"/jobs/{made.jobs['pdf']}/documents/1"
    answer = browser.get(f"{where}/1.png")
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).width == 1000
    for number in ("0", "2", "x", "99999999"):
        assert browser.get(f"{where}/{number}.png").status_code == 404
    assert browser.get(f"/jobs/{made.jobs['html']}/documents/0/1.png").status_code == 404
    assert browser.get(f"/jobs/{made.jobs['pdf']}/html").status_code == 404


def test_evidence_is_marked_where_it_stands_on_the_page() -> None:
    """Also when its words stand in two columns; what is not there marks nothing."""
    data = INVOICE.read_bytes()
    plain = Image.open(io.BytesIO(picture(data, "application/pdf", 1, [])))
    marked = Image.open(io.BytesIO(picture(data, "application/pdf", 1, ["Total due (GBP)    £1,284.60", "Nowhere"])))
    changed = {
        (x // 100, y // 100)
        for x in range(0, plain.width, 4)
        for y in range(0, plain.height, 4)
        if plain.getpixel((x, y)) != marked.getpixel((x, y))
    }
    assert changed
    assert {y for _, y in changed} <= {6, 7}
    assert {x for x, _ in changed} & {1, 2}
    assert {x for x, _ in changed} & {8}


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4 nothing", b"\x89PNG\r\n\x1a\n", b"GIF89a" + b"\xff" * 40])
def test_damaged_pages_are_told(data: bytes) -> None:
    """As unreadable, whatever the library makes of them."""
    for kind in ("application/pdf", "image/png"):
        with pytest.raises(Unreadable):
            picture(data, kind, 1, ["x"])


def test_html_without_end_is_bounded() -> None:
    """However deep it nests, and however long it is."""
    assert "is nested over 1000 deep" in harmless("<div>" * 200_000 + "deep")
    assert len(harmless("<p>" + "x" * 5_000_000)) < 1_100_000
