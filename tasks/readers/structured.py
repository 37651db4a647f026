"""JSON, forms and XML as lines a person, or a model, can quote; electronic invoices with their totals named."""

from __future__ import annotations

import json
import re
from urllib.parse import parse_qsl

from tasks.readers.charset import decode
from tasks.readers.content import Content, Source
from tasks.readers.xmlscan import scan

TYPES = ("application/json", "application/xml", "application/x-www-form-urlencoded")

_DATE_102 = re.compile(r"(\d{4})(\d\d)(\d\d)$")
_INVOICE_ROOTS = frozenset({"CrossIndustryInvoice", "CrossIndustryDocument", "Invoice", "CreditNote"})
_NAMED: tuple[tuple[str, str], ...] = (
    # UN/CEFACT Cross Industry Invoice (Factur-X, ZUGFeRD 1 and 2)
    (r"ExchangedDocument/ID", "Invoice number"),
    (r"ExchangedDocument/IssueDateTime/DateTimeString", "Invoice date"),
    (r"ExchangedDocument/TypeCode", "Type code"),
    (r"SellerTradeParty/Name", "Seller"),
    (r"SellerTradeParty/SpecifiedTaxRegistration/ID", "Seller's tax number"),
    (r"BuyerTradeParty/Name", "Buyer"),
    (r"InvoiceCurrencyCode", "Currency"),
    (r"PayeePartyCreditorFinancialAccount/IBANID", "IBAN"),
    (r"SpecifiedTradePaymentTerms/DueDateDateTime/DateTimeString", "Due date"),
    (r"MonetarySummation/TaxBasisTotalAmount", "Total without tax"),
    (r"MonetarySummation/TaxTotalAmount", "Tax"),
    (r"MonetarySummation/GrandTotalAmount", "Total with tax"),
    (r"MonetarySummation/DuePayableAmount", "Amount due"),
    # UBL 2.1 (Peppol, XRechnung)
    (r"^(Invoice|CreditNote)/ID", "Invoice number"),
    (r"^(Invoice|CreditNote)/IssueDate", "Invoice date"),
    (r"^(Invoice|CreditNote)/DueDate", "Due date"),
    (r"^(Invoice|CreditNote)/DocumentCurrencyCode", "Currency"),
    (r"AccountingSupplierParty/Party/PartyLegalEntity/RegistrationName", "Seller"),
    (r"AccountingSupplierParty/Party/PartyTaxScheme/CompanyID", "Seller's tax number"),
    (r"AccountingCustomerParty/Party/PartyLegalEntity/RegistrationName", "Buyer"),
    (r"PayeeFinancialAccount/ID", "IBAN"),
    (r"LegalMonetaryTotal/TaxExclusiveAmount", "Total without tax"),
    (r"^(Invoice|CreditNote)/TaxTotal/TaxAmount", "Tax"),
    (r"LegalMonetaryTotal/TaxInclusiveAmount", "Total with tax"),
    (r"LegalMonetaryTotal/PayableAmount", "Amount due"),
)
_NAMES = tuple((re.compile(rf"{pattern}$"), label) for pattern, label in _NAMED)


def read(source: Source) -> Content:
    """Readable lines; JSON pretty-printed with its values as they were."""
    if source.content_type == "application/xml":
        return _xml(source)
    text, note = decode(source.data, source.charset or "utf-8")
    notes = [note] if note else []
    if source.content_type == "application/x-www-form-urlencoded":
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=10_000)
        return Content("\n".join(f"{name}: {value}" for name, value in pairs), notes=tuple(notes))
    try:
        # Numbers stay as written: a total of 120.00 is no 120.0.
        text = json.dumps(json.loads(text, parse_float=_Literal, parse_int=_Literal), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        notes.append(f"not well-formed JSON ({str(error)[:100]}); shown as it is")
    return Content(_LITERAL.sub(r"\1", text), notes=tuple(notes))


_MARK = "\ue000"
_LITERAL = re.compile(rf'"{_MARK}([^"{_MARK}]*)"')


class _Literal(str):
    """A JSON number kept in its own spelling, marked by a private character so that the quotes can go again."""

    __slots__ = ()

    def __new__(cls, spelling: str) -> _Literal:
        return super().__new__(cls, _MARK + spelling)


def _xml(source: Source) -> Content:
    lines = _XmlLines()
    scan(source.data, start=lines.start, end=lines.end, text=lines.text)
    named = lines.named() if lines.root in _INVOICE_ROOTS else []
    text = "\n".join([*named, "", *lines.lines] if named else lines.lines)
    return Content(text, notes=("an electronic invoice: its values are data, not reading",) if named else ())


class _XmlLines:
    """Every element with text as `Parent / Element: value`, attributes in brackets."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.root = ""
        self._path: list[str] = []
        self._text: list[str] = []
        self._attributes: list[dict[str, str]] = []
        self._named: dict[str, str] = {}

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """A start tag."""
        self._flush()
        self.root = self.root or name
        self._path.append(name)
        self._attributes.append(attributes)

    def end(self, _name: str) -> None:
        """An end tag."""
        self._flush()
        self._path.pop()
        self._attributes.pop()

    def text(self, data: str) -> None:
        """A run of characters."""
        self._text.append(data)

    def named(self) -> list[str]:
        """The values that every invoice has, by their everyday names."""
        return [f"{label}: {value}" for label, value in self._named.items()]

    def _flush(self) -> None:
        value = " ".join("".join(self._text).split())
        self._text.clear()
        if not self._path or not (value or self._attributes[-1]):
            return
        attributes, self._attributes[-1] = self._attributes[-1], {}  # told once
        if attributes.get("format") == "102" and (date := _DATE_102.match(value)):
            value = "-".join(date.groups())
        extra = ", ".join(f"{key}={content}" for key, content in attributes.items() if len(content) < 100)
        if not value and not extra:
            return
        self.lines.append(f"{' / '.join(self._path[-3:])}: {value}".rstrip() + (f" ({extra})" if extra else ""))
        if not value:
            return
        path = "/".join(self._path[-12:])
        for pattern, label in _NAMES:
            if label not in self._named and pattern.search(path):
                unit = attributes.get("currencyID")
                self._named[label] = f"{value} {unit}" if unit else value
