"""Makes the demo's attachments: `python -m daemon.demo.make_documents`. Needs the dev extra (fpdf2, python-docx).

Every run writes the same bytes, so the files are committed and the demo itself needs none of these libraries.
All companies and persons are invented.
"""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import docx
from fpdf import FPDF
from PIL import Image, ImageDraw, ImageFont

INPUTS = Path(__file__).parent / "inputs"
MADE_ON = datetime.datetime(2025, 11, 3, 9, 0, tzinfo=datetime.UTC)
Row = Sequence[str]


def page(title: str, size: float = 20) -> FPDF:
    """An A4 page with a heading; set in the PDF core fonts, which need no font file."""
    pdf = FPDF(format="A4")
    pdf.core_fonts_encoding = "windows-1252"
    pdf.creation_date = MADE_ON
    pdf.set_producer("postroom demo")
    pdf.set_title(title)
    pdf.set_margin(20)
    pdf.add_page()
    pdf.set_font("Helvetica", "B", size)
    pdf.cell(0, 12, title, new_x="LMARGIN", new_y="NEXT")
    return pdf


def lines(pdf: FPDF, *texts: str, size: float = 10, bold: bool = False, align: str = "L") -> None:
    """Each text on lines of its own."""
    pdf.set_font("Helvetica", "B" if bold else "", size)
    for text in texts:
        pdf.multi_cell(0, size * 0.55, text, align=align, new_x="LMARGIN", new_y="NEXT")


def table(pdf: FPDF, rows: Sequence[Row], widths: Sequence[float], *, rule: bool = True) -> None:
    """Rows of cells; the first column to the left, the others to the right, a rule under the first row."""
    for number, row in enumerate(rows):
        pdf.set_font("Helvetica", "B" if rule and number == 0 else "", 10)
        for column, (text, width) in enumerate(zip(row, widths, strict=True)):
            pdf.cell(width, 7, text, border="B" if rule and number == 0 else 0, align="L" if column == 0 else "R")
        pdf.ln()


def packed(zipped: bytes) -> bytes:
    """The same zip file with fixed times, so that DOCX and XLSX come out equal on every run."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(zipped)) as source, zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        for item in source.infolist():
            entry = zipfile.ZipInfo(item.filename, (2025, 11, 3, 9, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            target.writestr(entry, re.sub(rb">[0-9T:-]{19}Z<", b">2025-11-03T09:00:00Z<", source.read(item)))
    return out.getvalue()


def word(title: str, paragraphs: Sequence[str], rows: Sequence[Row] = ()) -> bytes:
    """A DOCX with a heading, paragraphs (those starting with `# ` are headings) and a table at the end."""
    document = docx.Document()
    document.core_properties.created = document.core_properties.modified = MADE_ON.replace(tzinfo=None)
    document.core_properties.author = "postroom demo"
    document.add_heading(title, 0)
    for text in paragraphs:
        if text.startswith("# "):
            document.add_heading(text[2:], 2)
        else:
            document.add_paragraph(text)
    if rows:
        grid = document.add_table(rows=0, cols=len(rows[0]))
        grid.style = "Table Grid"
        for row in rows:
            for cell, text in zip(grid.add_row().cells, row, strict=True):
                cell.text = text
    out = io.BytesIO()
    document.save(out)
    return packed(out.getvalue())


def invoice() -> bytes:
    """An English invoice with subtotal, VAT and several other numbers near the total."""
    pdf = page("INVOICE")
    lines(pdf, "Northmoor Tool Hire Ltd", bold=True, size=12)
    lines(pdf, "Unit 7, Kestrel Yard, Northmoor NM4 2QT", "VAT registration GB 000 4417 29")
    pdf.ln(4)
    lines(pdf, "Bill to: Harbour Lane Supplies, 12 Harbour Lane, Westport", "Your order: HL-PO-3391")
    pdf.ln(4)
    table(
        pdf,
        [("Invoice number", "NTH-20418"), ("Invoice date", "14 October 2025"), ("Payment due", "13 November 2025")],
        (45, 45),
        rule=False,
    )
    pdf.ln(4)
    table(
        pdf,
        [
            ("Description", "Qty", "Rate", "Amount"),
            ("Plate compactor, per day", "5", "48.00", "240.00"),
            ("Mini digger 1.5 t, per day", "3", "165.00", "495.00"),
            ("Delivery and collection", "1", "85.00", "85.00"),
            ("Operator training", "2", "125.25", "250.50"),
        ],
        (80, 20, 30, 35),
    )
    pdf.ln(2)
    table(
        pdf,
        [("Subtotal", "1,070.50"), ("VAT 20%", "214.10"), ("Total due (GBP)", "£1,284.60")],
        (130, 35),
        rule=False,
    )
    pdf.ln(4)
    lines(pdf, "Please pay by bank transfer and quote the invoice number.")
    return bytes(pdf.output())


def rechnung() -> bytes:
    """A German invoice: comma decimals, points for thousands, day.month.year."""
    pdf = page("Rechnung", 18)
    lines(pdf, "Brenner Drucktechnik GmbH · Gerberstraße 18 · 04999 Musterstadt", size=8)
    pdf.ln(4)
    lines(pdf, "Harbour Lane Supplies", "12 Harbour Lane", "Westport")
    pdf.ln(4)
    lines(
        pdf,
        "Rechnungsnummer: RE-2025-0937",
        "Rechnungsdatum: 03.11.2025",
        "Leistungszeitraum: Oktober 2025",
        "Kundennummer: 44180",
        align="R",
    )
    pdf.ln(4)
    table(
        pdf,
        [
            ("Leistung", "Menge", "Einzelpreis", "Betrag"),
            ("Versandetiketten 100 x 150 mm, Rolle", "40", "18,90 EUR", "756,00 EUR"),
            ("Lieferscheintaschen C6, Karton", "10", "32,00 EUR", "320,00 EUR"),
            ("Druckplatte, einmalig", "1", "170,00 EUR", "170,00 EUR"),
        ],
        (80, 20, 32, 35),
    )
    pdf.ln(2)
    table(
        pdf,
        [("Nettobetrag", "1.246,00 EUR"), ("zzgl. 19 % USt.", "236,74 EUR"), ("Gesamtbetrag", "1.482,74 EUR")],
        (132, 35),
        rule=False,
    )
    pdf.ln(4)
    lines(pdf, "Zahlbar ohne Abzug bis zum 17.11.2025.", "Brenner Drucktechnik GmbH, Geschäftsführung: T. Brenner")
    return bytes(pdf.output())


def contract() -> bytes:
    """A services agreement with its parties, start, term and fee."""
    return word(
        "Service Agreement",
        [
            "This Agreement is made between Calder Office Cleaning LLP (the Provider) and "
            "Harbour Lane Supplies Ltd (the Client).",
            "# 1. Services",
            "The Provider shall clean the Client's offices and packing hall on each working day.",
            "# 2. Term",
            "This Agreement starts on 1 January 2026 and ends on 31 December 2027. Either party may terminate it "
            "by giving three months' notice in writing.",
            "# 3. Fee",
            "The Client shall pay EUR 1,150.00 per month, within 30 days of the end of each month.",
            "# 4. Governing law",
            "This Agreement is governed by the law of Ireland.",
            "Signed for the Provider: ____________________   Signed for the Client: ____________________",
        ],
    )


def resume() -> bytes:
    """A one-page resume."""
    pdf = page("Mira Tolland")
    lines(pdf, "Warehouse coordinator · mira.tolland@posthaven.example · +353 1 555 0142 · Westport")
    pdf.ln(3)
    lines(pdf, "Experience", bold=True, size=12)
    lines(
        pdf,
        "2021 - today: Shift lead, Ferrow Logistics. Leads a team of nine, introduced barcode picking.",
        "2018 - 2021: Stock controller, Dunmore Parts. Cycle counts, returns, supplier claims.",
    )
    pdf.ln(3)
    lines(pdf, "Education", bold=True, size=12)
    lines(pdf, "2018: Diploma in Supply Chain Management, Westport Institute of Technology")
    pdf.ln(3)
    lines(pdf, "Skills", bold=True, size=12)
    lines(pdf, "Inventory systems, forklift licence, English and Portuguese")
    return bytes(pdf.output())


def purchase_order() -> bytes:
    """A purchase order; its items stand in a CSV beside it."""
    pdf = page("PURCHASE ORDER", 18)
    lines(pdf, "Fernbank Garden Centres", bold=True, size=12)
    lines(pdf, "Orchard Road 3, Fernbank")
    pdf.ln(4)
    table(
        pdf,
        [("Order number", "FB-7731"), ("Order date", "5 November 2025"), ("Deliver by", "24 November 2025")],
        (45, 45),
        rule=False,
    )
    pdf.ln(4)
    lines(
        pdf,
        "To: Harbour Lane Supplies",
        "We order the items of the attached list (items.csv).",
        "Order total: EUR 618.40",
        "Deliver to: Fernbank Garden Centres, Gate 2, Orchard Road 3",
    )
    return bytes(pdf.output())


def scanned_letter() -> bytes:
    """A typed letter as a scanner would see it: grey paper, slightly turned, no text layer."""
    text = (
        "Tessel & Rowe, Bookbinders\n14 Mill Street, Alderby\n\n6 November 2025\n\n"
        "To Harbour Lane Supplies\n\nComplaint about order HL-77452\n\n"
        "Dear Sir or Madam,\n\nthe packing tape you delivered on 30 October does\n"
        "not stick. Eleven of our parcels came open on the way\n"
        "and we had to send the books again.\n\n"
        "We are very disappointed. Please refund the tape and\n"
        "tell us how you will prevent this.\n\nYours faithfully\nTessel & Rowe"
    )
    image = Image.new("L", (1000, 1150), 244)
    font = ImageFont.load_default(30)
    ImageDraw.Draw(image).multiline_text((90, 80), text, fill=40, font=font, spacing=14)
    turned = image.rotate(0.6, resample=Image.Resampling.BICUBIC, fillcolor=244).quantize(8)
    out = io.BytesIO()
    turned.save(out, "PNG", optimize=True, dpi=(150, 150))
    return out.getvalue()


MADE: dict[str, Callable[[], bytes]] = {
    "01-invoice-pdf/invoice-NTH-20418.pdf": invoice,
    "02-contract-docx/service-agreement.docx": contract,
    "04-rechnung-pdf/Rechnung RE-2025-0937.pdf": rechnung,
    "05-resume-pdf/resume-mira-tolland.pdf": resume,
    "07-two-attachments/purchase-order-FB-7731.pdf": purchase_order,
    "12-scanned-letter/letter.png": scanned_letter,
}


def write(made: dict[str, Callable[[], bytes]], folder: Path) -> None:
    """Make every document of `made` below `folder`."""
    for name, make in made.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(make())


if __name__ == "__main__":
    write(MADE, INPUTS)
