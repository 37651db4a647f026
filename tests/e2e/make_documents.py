"""Makes the attachments of the second input set (`python -m tests.e2e.make_documents`): other firms, other layouts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import openpyxl

from daemon.demo.make_documents import MADE_ON, lines, packed, page, table, word, write

INPUTS = Path(__file__).parent / "inputs"


def facture() -> bytes:
    """A French invoice: spaces for thousands, a comma for decimals, a month by its name."""
    pdf = page("FACTURE", 16)
    lines(pdf, "Atelier Verdon SARL", bold=True, size=11)
    lines(pdf, "3 chemin des Lavandes, 04990 Sainte-Orse", "SIRET 000 441 882 00017")
    pdf.ln(3)
    lines(pdf, "Facture n° F-2025-311", "Date de facturation : 7 novembre 2025", "Échéance : 7 décembre 2025")
    pdf.ln(3)
    lines(pdf, "Client : Kestrel & Moor, 8 Dock Street, Alderby", "Votre commande : KM-1190")
    pdf.ln(3)
    table(
        pdf,
        [
            ("Désignation", "Qté", "PU HT", "Total HT"),
            ("Cadres en chêne 40 x 60", "24", "42,00", "1 008,00"),
            ("Verre antireflet", "24", "21,50", "516,00"),
            ("Emballage et port", "1", "88,33", "88,33"),
        ],
        (80, 20, 30, 35),
    )
    pdf.ln(2)
    table(
        pdf,
        [("Total HT", "1 612,33 €"), ("TVA 20 %", "322,47 €"), ("Total TTC à payer", "1 934,80 €")],
        (130, 35),
        rule=False,
    )
    return bytes(pdf.output())


def statement() -> bytes:
    """An American invoice: details in a grid at the top, the total in a box, month before day."""
    pdf = page("Silver Pine Hosting, Inc.", 15)
    lines(pdf, "900 Quarry Avenue, Suite 4, Pinefield")
    pdf.ln(4)
    table(
        pdf,
        [("Invoice #", "Issued", "Due", "Account"), ("SPH-00871", "Nov 3, 2025", "Dec 3, 2025", "KM-22")],
        (45, 40, 40, 40),
    )
    pdf.ln(6)
    table(
        pdf,
        [
            ("Item", "Period", "Amount"),
            ("Managed server M4", "Oct 2025", "$1,890.00"),
            ("Backup storage, 3 TB", "Oct 2025", "$270.45"),
            ("Support hours (2)", "Oct 2025", "$150.00"),
        ],
        (85, 40, 40),
    )
    pdf.ln(4)
    lines(pdf, "Amount due: USD 2,310.45", bold=True, size=12, align="R")
    lines(pdf, "Prices include all taxes. Questions: billing@silverpine.example", size=9)
    return bytes(pdf.output())


def secrecy() -> bytes:
    """A mutual confidentiality agreement, as PDF."""
    pdf = page("Mutual Non-Disclosure Agreement", 15)
    lines(
        pdf,
        "between Kestrel & Moor Ltd and Osprey Analytics AG (each a Party).",
        "",
        "1. Each Party may disclose confidential information to the other for the purpose of evaluating a joint "
        "forecasting project.",
        "2. The receiving Party shall keep it secret and shall not use it for any other purpose.",
        "3. This Agreement takes effect on 1 December 2025 and ends on 30 November 2028.",
        "4. It is governed by the law of Austria.",
        "",
        "Signed: ______________________        Signed: ______________________",
    )
    return bytes(pdf.output())


def lebenslauf() -> bytes:
    """A German resume whose content stands in a table."""
    return word(
        "Lebenslauf",
        ["Bewerbung als Buchhalterin"],
        [
            ("Name", "Jorunn Adlerkamp"),
            ("E-Mail", "j.adlerkamp@briefkasten.example"),
            ("Telefon", "+43 1 5550 173"),
            ("2019 - heute", "Buchhalterin, Möbelhaus Tannert: Kreditoren, Monatsabschluss"),
            ("2015 - 2019", "Sachbearbeiterin, Steuerkanzlei Rehmann"),
            ("Ausbildung", "Steuerfachangestellte, 2015"),
            ("Sprachen", "Deutsch, Englisch, Norwegisch"),
        ],
    )


def item_list() -> bytes:
    """The items of an order, as a spreadsheet."""
    book = openpyxl.Workbook()
    book.properties.created = book.properties.modified = MADE_ON.replace(tzinfo=None)
    sheet = book.active
    sheet.title = "Order"
    for row in (
        ("Order number", "LB-2025-48"),
        ("Customer", "Larkbrook Community Library"),
        ("Order date", "2025-11-10"),
        (),
        ("Item", "Quantity", "Price", "Sum"),
        ("Picture frame A3", 30, 12.9, 387.0),
        ("Hanging rail 2 m", 8, 17.25, 138.0),
        ("Total EUR", None, None, 525.0),
    ):
        sheet.append(row)
    out = io.BytesIO()
    book.save(out)
    return packed(out.getvalue())


def cover_letter() -> bytes:
    """What goes with the spreadsheet: where to deliver."""
    return word(
        "Order LB-2025-48",
        [
            "Larkbrook Community Library orders the items in the attached spreadsheet.",
            "Please deliver to the side entrance, Library Lane 1, Larkbrook, on a weekday before noon.",
        ],
    )


def damaged() -> bytes:
    """A PDF of which only the start arrived: it cannot be read."""
    return b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Ty"


MADE: dict[str, Callable[[], bytes]] = {
    "01-facture-pdf/F-2025-311.pdf": facture,
    "02-invoice-grid/SPH-00871.pdf": statement,
    "03-nda-pdf/nda.pdf": secrecy,
    "04-beschwerde-text/lieferschein.pdf": damaged,
    "05-lebenslauf-docx/Lebenslauf.docx": lebenslauf,
    "07-order-xlsx/items.xlsx": item_list,
    "07-order-xlsx/order.docx": cover_letter,
}

if __name__ == "__main__":
    write(MADE, INPUTS)
