"""Strict reading of values: what a person wrote in a document becomes one normal form, or an error that says why not.

| type | written | normal form |
|---|---|---|
| date | `14. März 2026`, `March 14th, 2026`, `14/03/2026` | `2026-03-14` (ISO 8601) |
| decimal | `1.234,56 €`, `(1,234.56)`, `1'234.–` | `1234.56`, `-1234.56`, `1234` |
| integer | `1.500 Stück` | `1500` |
| currency | `€`, `Euro`, `US$` | `EUR`, `USD` (ISO 4217) |
| boolean | `ja`, `Yes`, `false` | `true`, `false` |
| email, iban, vat_id, phone, text | see tasks/identifiers.py | |

What has two readings (`03/04/2026`, `1.234`) is settled by the rest of the document (Hints) or refused, never guessed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

from tasks.identifiers import NotAValue, email, iban, one_line, phone, vat_id

LONGEST = 500
"""Characters of a value that are looked at; a longer one is refused."""

CURRENCIES = {
    "€": "EUR", "eur": "EUR", "euro": "EUR", "euros": "EUR", "$": "USD", "us$": "USD", "usd": "USD",
    "dollar": "USD", "dollars": "USD", "us dollar": "USD", "us dollars": "USD", "£": "GBP", "gbp": "GBP",
    "pound": "GBP", "pounds": "GBP", "pounds sterling": "GBP", "chf": "CHF", "fr.": "CHF", "sfr": "CHF",
    "sfr.": "CHF", "franken": "CHF", "francs suisses": "CHF", "¥": "JPY", "jpy": "JPY", "yen": "JPY", "cny": "CNY",
    "rmb": "CNY", "₹": "INR", "inr": "INR", "₩": "KRW", "krw": "KRW", "a$": "AUD", "au$": "AUD", "aud": "AUD",
    "c$": "CAD", "ca$": "CAD", "cad": "CAD", "nz$": "NZD", "nzd": "NZD", "zł": "PLN", "pln": "PLN", "kč": "CZK",
    "czk": "CZK", "sek": "SEK", "nok": "NOK", "dkk": "DKK", "huf": "HUF", "ft": "HUF", "ron": "RON", "bgn": "BGN",
    "₺": "TRY", "try": "TRY", "uah": "UAH", "₴": "UAH", "sgd": "SGD", "s$": "SGD", "hkd": "HKD", "hk$": "HKD",
    "mxn": "MXN", "brl": "BRL", "r$": "BRL", "zar": "ZAR", "ils": "ILS", "₪": "ILS", "aed": "AED",
}  # fmt: skip

_MONTHS = (
    "january jan januar janner jaenner janvier janv enero ene gennaio gen januari",
    "february feb februar fevrier fevr fev febrero febbraio februari",
    "march mar marz maerz mrz mars marzo maart mrt",
    "april apr avril avr abril abr aprile",
    "may mai mayo maggio mag mei",
    "june jun juni juin junio giugno giu",
    "july jul juli juillet juil julio luglio lug",
    "august aug aout agosto ago augustus",
    "september sept sep septembre septiembre settembre set",
    "october oct oktober okt octobre octubre ottobre ott",
    "november nov novembre noviembre",
    "december dec dezember dez decembre diciembre dic dicembre",
)
MONTHS = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}

_YES = frozenset(["true", "yes", "y", "ja", "oui", "si", "sí", "vrai", "wahr", "on", "1"])
_NO = frozenset(["false", "no", "n", "nein", "non", "nee", "faux", "falsch", "off", "0"])

NUMBER = re.compile(r"(?<![\w.,])\(?[-−–+]?\s?\d(?:[\d.,'’]|[ \u00a0\u202f](?=\d{3}(?!\d)))*(?:[.,](?:-{1,2}|[–—]))?")
_DECIMAL_COMMA = re.compile(r"\d,\d{2}(?![\d,.]\d)(?!\d)")
_DECIMAL_POINT = re.compile(r"\d\.\d{2}(?![\d,.]\d)(?!\d)(?!\.\d)")

_NAME = r"([^\W\d_]{3,10})\.?"
_ISO = re.compile(r"(?<!\d)(\d{4})[-/.](\d{1,2})[-/.](\d{1,2})(?!\d)")
_NUMERIC = re.compile(r"(?<![\d./-])(\d{1,2})\s?([./-])\s?(\d{1,2})\s?\2\s?(\d{4}|\d{2})(?![\d/-])")
_DAY_NAME = re.compile(
    rf"(?<!\d)(\d{{1,2}})(?:\.|st|nd|rd|th|er|º)?[\s-]*(?:of\s+|de\s+)?{_NAME}(?:\s+de)?[\s,-]*(\d{{4}}|\d{{2}}(?!\d))(?!\d)",
    re.IGNORECASE,
)
_NAME_DAY = re.compile(rf"\b{_NAME}\s+(\d{{1,2}})(?:st|nd|rd|th)?,?\s+(\d{{4}})(?!\d)", re.IGNORECASE)
_COMPACT = re.compile(r"(?<!\d)((?:19|20)\d{2})(\d{2})(\d{2})(?!\d)")


@dataclass(frozen=True)
class Hints:
    """How the document around a value writes numbers and dates; None where it doesn't tell."""

    decimal_comma: bool | None = None
    day_first: bool | None = None
    region: str = ""
    """Country (ISO 3166) whose telephone numbers stand without a country code; empty: they are refused."""

    @classmethod
    def of(cls, text: str, language: str = "") -> Hints:
        """Read the habits of `text`: its unmistakable numbers and dates first, then its language and currency."""
        return cls(_comma_habit(text, language), _day_habit(text, language))


def _comma_habit(text: str, language: str) -> bool | None:
    commas, points = len(_DECIMAL_COMMA.findall(text)), len(_DECIMAL_POINT.findall(text))
    if commas != points:
        return commas > points
    return None if not language else language not in {"en", "ja", "zh", "ko", "he", "th"}


def _day_habit(text: str, language: str) -> bool | None:
    pairs = [(int(m[1]), int(m[3])) for m in _NUMERIC.finditer(text) if m[2] != "."]
    day_first = sum(first > 12 >= second for first, second in pairs)
    month_first = sum(second > 12 >= first for first, second in pairs)
    if day_first != month_first:
        return day_first > month_first
    if language and language != "en":
        return True
    if re.search(r"€|£|\b(?:EUR|GBP|CHF|AUD|NZD|VAT|GST|Ltd|GmbH|MwSt|TVA|IBAN)\b|A\$", text):
        return True
    if re.search(r"\$|\bUSD\b|\bInc\.|\bLLC\b", text):
        return False
    return None


def normalise(kind: str, raw: str, hints: Hints = Hints()) -> str:
    """Give the normal form of `raw`, read as a value of type `kind` (FieldSpec.type).

    Raises NotAValue with a sentence when it is none, or has two readings that `hints` don't settle.
    """
    cleaned = one_line(raw)
    if not cleaned or len(cleaned) > LONGEST:
        raise NotAValue(f"is longer than {LONGEST} characters" if cleaned else "is empty")
    return _PARSERS[kind](cleaned, hints)


def _text(raw: str, _: Hints) -> str:
    return raw


def parse_date(raw: str, hints: Hints) -> str:
    """The one date in `raw`, as ISO 8601. Raises NotAValue when there is none, several, or its order is unclear."""
    found = {value for value, _ in dates_in(raw, hints)}
    if len(found) == 1:
        return found.pop()
    if found:
        raise NotAValue("holds more than one date")
    if _NUMERIC.search(raw) and dates_in(raw, Hints(day_first=True)):
        raise NotAValue("may be day/month or month/day")
    raise NotAValue("is no date")


def dates_in(text: str, hints: Hints) -> list[tuple[str, tuple[int, int]]]:
    """Every complete date in `text` in order, with where it stands; those of unclear order are left out."""
    found: dict[tuple[int, int], str] = {}
    taken = bytearray(len(text))

    def add(match: re.Match[str], year: str, month: int, day: str) -> None:
        number = int(year) if len(year) == 4 else 2000 + int(year) if int(year) < 80 else 1900 + int(year)
        start, end = match.span()
        if any(taken[start:end]):
            return
        try:
            found[start, end] = date(number, month, int(day)).isoformat()
        except ValueError:
            return
        taken[start:end] = b"\1" * (end - start)

    for m in _ISO.finditer(text):
        add(m, m[1], int(m[2]), m[3])
    for m in _DAY_NAME.finditer(text):
        if month := MONTHS.get(unaccented(m[2])):
            add(m, m[3], month, m[1])
    for m in _NAME_DAY.finditer(text):
        if month := MONTHS.get(unaccented(m[1])):
            add(m, m[3], month, m[2])
    for m in _NUMERIC.finditer(text):
        first, second = m[1], m[3]
        if m[2] == "." or int(first) > 12 or first == second or (hints.day_first and int(second) <= 12):
            add(m, m[4], int(second), first)
        elif int(second) > 12 or hints.day_first is False:
            add(m, m[4], int(first), second)
    for m in _COMPACT.finditer(text):
        add(m, m[1], int(m[2]), m[3])
    return [(value, place) for place, value in sorted(found.items())]


def unaccented(word: str) -> str:
    """In small letters and without accents."""
    return "".join(c for c in unicodedata.normalize("NFKD", word.casefold()) if not unicodedata.combining(c))


def parse_decimal(raw: str, hints: Hints) -> str:
    """The one number in `raw` with a point and no grouping. Raises NotAValue."""
    match = NUMBER.search(raw) or NUMBER.search(re.sub(r"(?<=[^\W\d_])(?=\d)", " ", raw))  # `EUR450.00`
    if match is None:
        raise NotAValue("is no number")
    rest = raw.replace(match[0], "", 1) if match[0] in raw else ""
    if re.search(r"\d", re.sub(r"\d+(?:[.,]\d+)?\s?%", "", rest)):
        raise NotAValue("holds more than one number")
    after = rest.strip()
    negative = match[0].startswith(("(", "-", "−", "–")) or after.endswith(("-", "−")) or raw.startswith(("-", "−"))
    number = plain_number(match[0], hints)
    return f"-{number}" if negative and number.strip("0.") else number


def plain_number(written: str, hints: Hints) -> str:
    """A number as it was written, with at most one point. Raises NotAValue when its groups are broken or unclear."""
    body = re.sub(r"[.,](?:-{1,2}|[–—])$", "", written.strip("(+-−– ")).rstrip(".,'’ ")
    body = re.sub(r"[ \u00a0\u202f'’]", "_", body)
    marks = re.findall(r"[.,]", body)
    if not marks:
        whole, fraction = body, ""
    elif len(set(marks)) == 2:
        whole, _, fraction = body.rpartition(marks[-1])
        if marks[-1] in whole:
            raise NotAValue("is no number: its marks are mixed")
        whole = whole.replace(marks[0], "_")
    elif len(marks) > 1:
        whole, fraction = body.replace(marks[0], "_"), ""
    else:
        whole, _, fraction = body.partition(marks[0])
        if _groups(marks[0], whole, fraction, hints):
            whole, fraction = f"{whole}_{fraction}", ""
    first, *groups = whole.split("_")
    if groups and not (1 <= len(first) <= 3 and len(groups[-1]) == 3 and all(len(g) in {2, 3} for g in groups)):
        raise NotAValue("is no number: its groups of digits are broken")
    digits = first + "".join(groups)
    try:
        return str(Decimal(f"{digits}.{fraction}" if fraction else digits))
    except InvalidOperation:
        raise NotAValue("is no number") from None


def _groups(mark: str, whole: str, fraction: str, hints: Hints) -> bool:
    """Whether the only mark of a number separates thousands."""
    if len(fraction) != 3 or len(whole) > 3 or "_" in whole or whole in {"", "0"}:
        return False
    if hints.decimal_comma is None:
        raise NotAValue(f"may be a thousand or a fraction: {whole}{mark}{fraction}")
    return (mark == ",") != hints.decimal_comma


def _integer(raw: str, hints: Hints) -> str:
    number = Decimal(parse_decimal(raw, hints))
    if number != number.to_integral_value():
        raise NotAValue("is no whole number")
    return str(number.to_integral_value())


def currency(raw: str, _: Hints) -> str:
    """ISO 4217 code of the one currency named in `raw`. Raises NotAValue."""
    if whole := CURRENCIES.get(raw.casefold().strip(" .:()")):
        return whole
    found = {code for code, _ in currencies_in(raw)}
    if len(found) != 1:
        raise NotAValue("names more than one currency" if found else "is no currency that is known")
    return found.pop()


_CURRENCY = re.compile(
    "|".join(
        rf"(?<![^\W\d_]){re.escape(word)}(?![^\W\d_])" if word[-1].isalpha() else re.escape(word)
        for word in sorted(CURRENCIES, key=len, reverse=True)
        if word not in {"try", "ft", "fr."}  # words of other languages; as a whole value they count
    ),
    re.IGNORECASE,
)


def currencies_in(text: str) -> list[tuple[str, tuple[int, int]]]:
    """Every currency named in `text`, as ISO code with where it stands."""
    return [(CURRENCIES[m[0].casefold()], m.span()) for m in _CURRENCY.finditer(text)]


def boolean(raw: str, _: Hints) -> str:
    """`true` or `false`. Raises NotAValue."""
    word = raw.casefold().strip(" .!")
    if word in _YES or word in _NO:
        return "true" if word in _YES else "false"
    raise NotAValue("is neither yes nor no")


_PARSERS: dict[str, Callable[[str, Hints], str]] = {
    "text": _text,
    "date": parse_date,
    "decimal": parse_decimal,
    "integer": _integer,
    "currency": currency,
    "boolean": boolean,
    "email": lambda raw, _: email(raw),
    "iban": lambda raw, _: iban(raw),
    "vat_id": lambda raw, _: vat_id(raw),
    "phone": lambda raw, hints: phone(raw, hints.region),
}
