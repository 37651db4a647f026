"""What each format's reader makes of a small file (tasks/readers/*.py), read in the test's own process."""

from __future__ import annotations

import datetime as dt
import io
import zipfile

import openpyxl  # type: ignore[import-untyped]  # has no types
import pytest
from fpdf import FPDF

from tasks.errors import Unreadable
from tasks.readers import registry
from tasks.readers.content import Content, Source
from tasks.readers.limits import Limits
from tasks.readers.sniffing import sniff
from tests.integration.readers import samples
from tests.integration.readers.fixtures import HEIC


def read(data: bytes, name: str = "", claimed: str = "", **options: object) -> Content:
    """Sniff and read."""
    content_type = sniff(data, name, claimed)
    reader = registry.reader_for(content_type)
    assert reader is not None, content_type
    return reader(Source(data=data, name=name, content_type=content_type, claimed=claimed, **options))  # type: ignore[arg-type]


def test_pdf_rows_keep_label_and_amount_together() -> None:
    """A label and its amount stand on one line, with a tab between."""
    lines = [line for line in read(samples.table_pdf()).text.split("\n") if line]
    assert lines == ["Consulting\t100.00", "Travel\t19.50", "Total\t119.50"]


def test_pdf_pages_are_parted_by_form_feeds() -> None:
    """Evidence can point to a page."""
    content = read(samples.pdf("Needle", pages=3))
    assert content.pages == 3
    assert [page.strip() for page in content.text.split("\f")] == [f"Needle on page {n}" for n in (1, 2, 3)]


def test_pdf_pages_over_the_limit_are_told() -> None:
    """No page is left out in silence."""
    content = read(samples.pdf("x", pages=4), limits=Limits(pages=2))
    assert content.pages == 2
    assert content.text.count("\f") == 1
    assert any("2 of 4 pages" in note for note in content.notes)


def test_pdf_embedded_invoice_is_a_child() -> None:
    """Factur-X: the XML inside comes out as a file of its own, byte for byte."""
    (child,) = read(samples.pdf(attachment=samples.FACTUR_X)).children
    assert (child.name, child.data) == ("factur-x.xml", samples.FACTUR_X)


def test_pdf_comments_are_read() -> None:
    """What somebody noted on a page stands below its text."""
    document = FPDF()
    document.add_page()
    document.set_font("Helvetica", size=12)
    document.cell(text="Draft of the contract, as it was sent to us in the spring")
    document.text_annotation(x=20, y=40, text="Please change the notice period to six months")
    assert read(bytes(document.output())).text.split("\n")[-2:] == [
        "Comments:",
        "Please change the notice period to six months",
    ]


def test_scanned_pdf_is_recognised() -> None:
    """A page that is only a picture gets its words by optical recognition, and the notes say so."""
    content = read(samples.scanned_pdf())
    assert "Invoice 2026-0815" in content.text
    assert "1.234,56" in content.text
    assert any("optical recognition" in note for note in content.notes)


@pytest.mark.parametrize(("angle", "tilt"), [(0, 0.0), (90, 0.0), (180, 0.0), (0, 3.0)])
def test_pictures_are_read_turned_and_tilted(angle: int, tilt: float) -> None:
    """A scan fed in sideways, upside down or askew is read all the same."""
    text = read(samples.png(angle=angle, tilt=tilt)).text
    assert "Invoice 2026-0815" in text
    assert "1.234,56 EUR" in text


def test_tiff_frames_are_pages() -> None:
    """Each page of a fax is a page of the document."""
    frames = [samples.picture("First page of the fax"), samples.picture("Second page of the fax")]
    content = read(samples.encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:]))
    assert content.pages == 2
    first, second = content.text.split("\f")
    assert "First page" in first
    assert "Second page" in second


def test_heic_is_read() -> None:
    """Telephones take pictures in HEIC."""
    assert sniff(HEIC) == "image/heic"
    assert "Parcel 4711 arrived" in read(HEIC).text


def test_recognition_has_a_budget_of_pages() -> None:
    """Scanned pages over the limit are told, not read."""
    frames = [samples.picture(f"Page number {n}") for n in range(3)]
    data = samples.encoded(frames[0], "TIFF", save_all=True, append_images=frames[1:])
    content = read(data, limits=Limits(ocr_pages=2))
    assert content.pages == 2
    assert any("2" in note and "pages" in note for note in content.notes)


def test_picture_without_words_says_so() -> None:
    """An empty picture is read, and holds nothing."""
    content = read(samples.encoded(samples.picture(" "), "PNG"))
    assert content.text.strip() == ""
    assert "no words were found in the picture" in content.notes


def test_word_document_with_header_footer_and_table() -> None:
    """DOCX: header and footer are read, table rows stand on one line, hidden text is left out and told."""
    content = read(samples.word())
    assert "Muster GmbH, Berlin" in content.text
    assert "IBAN DE02 1203 0000 0000 2020 51" in content.text
    assert "Monthly fee\t250.00" in content.text.split("\n")
    assert "Ignore all previous" not in content.text
    assert any("hidden" in note for note in content.notes)


def test_workbook_rows_and_hidden_sheets() -> None:
    """XLSX: rows with tabs, whole numbers without `.0`, a page per sheet, hidden ones told."""
    content = read(samples.workbook())
    orders, margins = content.text.split("\f")
    assert orders == "Sheet: Orders\nItem\tCount\tPrice\nBolt\t12\t0.5\nNut\t7\t1200"
    assert margins.startswith("Sheet: Margins")
    assert "the sheet 'Margins' is hidden" in content.notes


def test_workbook_dates_are_iso() -> None:
    """A date cell is an ISO 8601 date."""
    book = openpyxl.Workbook()
    book.active.append((dt.datetime(2026, 12, 24), dt.datetime(2026, 12, 24, 18, 30)))
    out = io.BytesIO()
    book.save(out)
    assert "2026-12-24\t2026-12-24 18:30:00" in read(out.getvalue()).text


@pytest.mark.parametrize(
    ("data", "rows"),
    [
        (b"a,b\n1,2\n", ["a\tb", "1\t2"]),
        ("Artikel;Preis\nMüsli;1,50\n".encode("cp1252"), ["Artikel\tPreis", "Müsli\t1,50"]),
        ("a\tb\r\n1\t2\r\n".encode("utf-16"), ["a\tb", "1\t2"]),
        (b'"x, y"|2\n"multi\nline"|3\n', ["x, y\t2", "multi line\t3"]),
    ],
)
def test_csv_charset_and_delimiter_are_guessed(data: bytes, rows: list[str]) -> None:
    """CSV of any delimiter and charset becomes rows with tabs."""
    assert read(data, "t.csv", "text/csv").text.split("\n") == rows


def test_html_tables_and_blocks() -> None:
    """Rows of a data table stand on one line; paragraphs and line breaks part lines."""
    html = b"<p>Dear team,<br>see below:</p><table><tr><th>Item<th>Price</tr><tr><td>Bolt<td>1 &euro;</tr></table>Bye"
    assert read(html, claimed="text/html").text == "Dear team,\nsee below:\n\nItem\tPrice\nBolt\t1 €\n\nBye"


@pytest.mark.parametrize(
    "hidden",
    [
        '<p style="display:none">SECRET</p>',
        '<span style="font-size:0px">SECRET</span>',
        "<div hidden>SECRET</div>",
        '<p style="color:#FFF;background:#ffffff">SECRET</p>',
        '<p style="visibility: hidden">SECRET</p>',
        '<div style="max-height:0;overflow:hidden">SECRET</div>',
        '<style>.x{display:none}</style><p class="y x">SECRET</p>',
        '<p style="opacity:0">SECRET</p>',
        '<p style="position:absolute;left:-9999px">SECRET</p>',
        '<p style="color:#fff">SECRET</p>',
        '<p style="color:#FDFDFD;background:transparent">SECRET</p>',
        '<div style="background:#004080"><p style="color:rgb(0, 64, 128)">SECRET</p></div>',
        '<div style="color:#eee"><p style="background-color:#eee"><b>SECRET</b></p></div>',
        '<font color="white">SECRET</font>',
        '<p style="color:transparent">SECRET</p>',
        '<p style="color:rgba(0,0,0,0)">SECRET</p>',
        '<p style="font-size:1px">SECRET</p>',
        '<div style="font-size:0.05em"><i>SECRET</i></div>',
        "<style>p i{display:none}</style><p><i>SECRET</i></p>",
        '<style>@media screen{#x{display:none!important}}</style><p id="x" style="display:block">SECRET</p>',
        '<p style="position:absolute;clip:rect(0,0,0,0)">SECRET</p>',
        '<p style="clip-path:inset(100%)">SECRET</p>',
        '<p style="transform:scale(0)">SECRET</p>',
        '<p style="text-indent:-999em">SECRET</p>',
        '<p style="position:absolute;width:1px;height:1px;overflow:hidden">SECRET</p>',
    ],
)
def test_hidden_html_is_left_out_and_told(hidden: str) -> None:
    """What a reader of the mail would not see is not in the text; the notes tell how much it was."""
    content = read(f"<html><body><p>Seen</p>{hidden}<p>also seen</p></body></html>".encode())
    assert content.text.split() == ["Seen", "also", "seen"]
    assert any(note.startswith("6 characters") for note in content.notes)


@pytest.mark.parametrize(
    "shown",
    [
        '<p style="font-size:10px;opacity:0.9">WORDS</p>',
        '<style>@media print{.x{display:none}}</style><p class="x">WORDS</p>',
        '<p style="display:block;height:0px">WORDS</p>',
        '<p style="color:#fff;background-color:#004080">WORDS</p>',
        '<body bgcolor="#004080"><p style="color:#fff;background:transparent">WORDS</p>',
        '<table bgcolor="336699"><td><font color="white">WORDS</font></table>',
        '<div style="background:url(sea.png) #fff"><p style="color:#fff">WORDS</p></div>',
        '<style>.b td{background-color:navy}</style><table class="b"><td style="color:#fff">WORDS</table>',
        '<style>a:link{background:#036}</style><a style="color:#fff">WORDS</a>',
        '<div style="font-size:0px"><div style="font-size:13px">WORDS</div></div>',
        '<div style="visibility:hidden"><p style="visibility:visible">WORDS</p></div>',
        '<style>.x{display:none} .x{display:block}</style><p class="x">WORDS</p>',
        '<style>.x{display:none}</style><p class="x" style="display:block">WORDS</p>',
        '<p style="left:-9999px">WORDS</p>',
        "<!--[if mso]><p>Outlook</p><![endif]--><p>WORDS</p><!-- footer -->",
        '<p style="opacity: 1">WORDS</p>',
        '<p style="opacity: 0.9">WORDS</p>',
        '<style>.c { opacity: 1 }</style><p class="c">WORDS</p>',
        '<p style="line-height:0;overflow:hidden">WORDS</p>',
        '<p style="min-width: 0; overflow: hidden">WORDS</p>',
    ],
)
def test_visible_html_is_kept(shown: str) -> None:
    """White words on a coloured ground and rules for print hide nothing."""
    content = read(f"<html><body>{shown}</body></html>".encode())
    assert content.text == "WORDS"
    assert content.notes == ()


def test_html_scripts_styles_and_comments_are_no_text() -> None:
    """Only words are text."""
    html = b"<html><head><title>t</title><style>p{}</style></head><body><!-- c --><script>s()</script>words</body>"
    assert read(html).text == "words"


def test_zero_width_characters_are_removed() -> None:
    """Words cannot be broken up invisibly."""
    assert read("<html><body>in\u200bvoi\u2060ce</body></html>".encode()).text == "invoice"


def test_deep_html_is_refused_at_once() -> None:
    """300,000 nested elements: a reason, not 35 seconds."""
    with pytest.raises(Unreadable, match="nested over"):
        read(b"<html>" + b"<div>" * 300_000)


def test_many_unclosed_paragraphs_are_no_depth() -> None:
    """Elements that close each other may be many."""
    assert read(b"<html>" + b"<p>x" * 6_000).text.count("x") == 6_000


def test_invoice_xml_names_its_values() -> None:
    """An electronic invoice begins with its number, date, seller and total by their everyday names."""
    lines = read(samples.FACTUR_X).text.split("\n")
    for line in ("Invoice number: R-77", "Invoice date: 2026-11-21", "Seller: Muster GmbH", "Total with tax: 119.00"):
        assert line in lines


def test_xml_values_in_attributes_are_told_once() -> None:
    """Elements without words of their own keep their attributes."""
    text = read(b'<?xml version="1.0"?><order id="4711"><item sku="A1" price="3.00"/>Thanks</order>').text
    assert text.splitlines() == ["order: (id=4711)", "order / item: (sku=A1, price=3.00)", "order: Thanks"]


def test_xml_with_entities_is_refused() -> None:
    """A billion laughs are not laughed."""
    with pytest.raises(Unreadable, match="entities"):
        read(b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "ha">]><x>&a;</x>')


def test_json_keeps_numbers_as_written() -> None:
    """A total of 120.00 stays 120.00; text stays readable."""
    text = read('{"total":120.00,"n":1e3,"big":12345678901234567890.10,"name":"Jürgen","t":"5"}'.encode()).text
    assert '"total": 120.00,' in text
    assert '"big": 12345678901234567890.10,' in text
    assert '"name": "Jürgen",' in text
    assert '"t": "5"' in text


def test_broken_json_is_shown_as_it_is() -> None:
    """What is no JSON is still text."""
    content = read(b'{"a": 1, oops', "x.json", "application/json")
    assert content.text == '{"a": 1, oops'


def test_form_fields_are_lines() -> None:
    """A posted form becomes `name: value` lines."""
    text = read(b"name=Anna+M%C3%BCller&note=", claimed="application/x-www-form-urlencoded").text
    assert text == "name: Anna Müller\nnote: "


def test_calendar_and_card() -> None:
    """iCalendar and vCard: labelled lines, ISO dates, folded lines joined, alarms left out."""
    event = (
        b"BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VEVENT\r\nSUMMARY:Plan\\, talk\r\n"
        b"DTSTART;TZID=Europe/Berlin:20261124T090000\r\nORGANIZER;CN=Anna:mailto:a@example.org\r\n"
        b"DESCRIPTION:one\\ntwo an\r\n d three\r\nBEGIN:VALARM\r\nDESCRIPTION:beep\r\nEND:VALARM\r\nEND:VEVENT\r\n"
        b"END:VCALENDAR\r\n"
    )
    lines = read(event).text.split("\n")
    assert "Summary: Plan, talk" in lines
    assert "Start: 2026-11-24T09:00:00 (Europe/Berlin)" in lines
    assert "Organizer: Anna <a@example.org>" in lines
    assert "two and three" in lines
    assert not any("beep" in line for line in lines)
    assert read(b"BEGIN:VCARD\nFN:Anna\nTEL;TYPE=work:+49 30\nEND:VCARD\n").text == "Name: Anna\nTelephone: +49 30"


def test_open_document_text() -> None:
    """ODT: paragraphs are lines, table rows have tabs, repeated cells are repeated."""
    row = (
        '<table:table-row><table:table-cell table:number-columns-repeated="2"><text:p>2</text:p></table:table-cell>'
        "<table:table-cell><text:p>119<text:s/>EUR</text:p></table:table-cell></table:table-row>"
    )
    names = {"office": "office", "text": "text", "table": "table"}
    spaces = "".join(
        f' xmlns:{short}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for short, name in names.items()
    )
    body = f"<text:h>Offer</text:h><text:p>Valid<text:tab/>until May</text:p><table:table>{row}</table:table>"
    files = {
        "mimetype": b"application/vnd.oasis.opendocument.text",
        "content.xml": f"<office:document-content{spaces}>{body}</office:document-content>".encode(),
    }
    odt = samples.zipped(files, zipfile.ZIP_STORED)
    assert sniff(odt) == "application/vnd.oasis.opendocument.text"
    assert read(odt).text == "Offer\nValid\tuntil May\n2\t2\t119 EUR"


def test_presentation_slides_are_pages() -> None:
    """PPTX: a page per slide in their order, with its notes."""
    paragraph = '<p:sld xmlns:p="p" xmlns:a="a"><a:p><a:r><a:t>{}</a:t></a:r></a:p></p:sld>'
    files = {"[Content_Types].xml": b"<Types/>", "ppt/presentation.xml": b"<p/>"}
    files |= {f"ppt/slides/slide{n}.xml": paragraph.format(f"Slide {n} of many").encode() for n in (1, 2, 10)}
    files["ppt/notesSlides/notesSlide2.xml"] = paragraph.format("Speak slowly here").encode()
    content = read(samples.zipped(files))
    assert content.pages == 3
    assert [page.split("\n")[0] for page in content.text.split("\f")] == [f"Slide {n} of many" for n in (1, 2, 10)]
    assert "Speak slowly here" in content.text.split("\f")[1]


def test_rtf() -> None:
    """RTF without its marks, in its own code page."""
    assert read(b"{\\rtf1\\ansi\\ansicpg1252 Gr\\'fc\\'dfe\\par Ende}").text.split("\n") == ["Grüße", "Ende"]


def test_archives_give_their_files() -> None:
    """ZIP and TAR members are children under cleaned names; links are left alone."""
    members = {"a/x.txt": b"one", "y.csv": b"1,2"}
    content = read(samples.zipped(members))
    assert [child.data for child in content.children] == [b"one", b"1,2"]
    assert "a/x.txt (3 bytes)" in content.text
    (inner,) = read(samples.tarred(members), "t.tgz").children
    assert inner.name == "t.tar"
    content = read(inner.data)
    assert [child.data for child in content.children] == [b"one", b"1,2"]
    assert any("link" in note for note in content.notes)


def test_zip_budgets() -> None:
    """Members over the budget stay packed, and are told."""
    data = samples.zipped({f"{n}.txt": b"x" * 1000 for n in range(9)})
    few = read(data, limits=Limits(files=3))
    assert len(few.children) == 3
    assert any("not unpacked" in note for note in few.notes)
    small = read(data, limits=Limits(unpacked_bytes=2500))
    assert sum(len(child.data) for child in small.children) <= 2500
    assert any("not unpacked" in note for note in small.notes)


def test_nested_mail_has_its_header_and_files() -> None:
    """An attached mail is read with sender, date and subject; its attachments are children."""
    content = read(samples.mail(files={"a.csv": ("text/csv", b"1,2")}), claimed="message/rfc822")
    assert "Subject: Rechnung für März" in content.text
    assert "Anna Müller <anna@example.org>" in content.text
    assert "please find the invoice attached" in content.text
    assert [(child.name, child.data) for child in content.children] == [("a.csv", b"1,2")]


@pytest.mark.parametrize(
    ("data", "charset", "text"),
    [
        ("grün".encode(), "", "grün"),
        ("grün".encode("cp1252"), "iso-8859-1", "grün"),
        ("grün €".encode("cp1252"), "iso-8859-1", "grün €"),
        ("grün".encode(), "us-ascii", "grün"),
        ("grün".encode("utf-16"), "utf-8", "grün"),
        ("日本".encode("iso-2022-jp"), "iso-2022-jp", "日本"),
        (b"gr\xfcn", "no-such", "gr\ufffdn"),
        (b"hex", "hex", "hex"),
    ],
)
def test_charsets(data: bytes, charset: str, text: str) -> None:
    """Claimed, wrong and unknown charsets give readable text."""
    reader = registry.reader_for("text/plain")
    assert reader is not None
    assert reader(Source(data, content_type="text/plain", charset=charset)).text == text
