"""Identifiers that carry their own check: e-mail addresses, IBANs, VAT numbers; and the cleaning all values share."""

from __future__ import annotations

import re
import unicodedata

_EMAIL = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z]{2,63}"
)
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")

_IBAN_LENGTHS = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24,
    "FI": 18, "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "HR": 21, "HU": 28,
    "IE": 22, "IL": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MT": 31, "NL": 18, "NO": 15, "PK": 24,
    "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SE": 24, "SI": 19, "SK": 24,
    "SM": 27, "TN": 24, "TR": 26, "UA": 29, "VA": 22, "XK": 20,
}  # fmt: skip

_VAT_FORMS = {
    "AT": r"U\d{8}", "BE": r"[01]\d{9}", "BG": r"\d{9,10}", "CHE": r"\d{9}(?:MWST|TVA|IVA)?", "CY": r"\d{8}[A-Z]",
    "CZ": r"\d{8,10}", "DE": r"\d{9}", "DK": r"\d{8}", "EE": r"\d{9}", "EL": r"\d{9}", "ES": r"[A-Z0-9]\d{7}[A-Z0-9]",
    "FI": r"\d{8}", "FR": r"[A-HJ-NP-Z0-9]{2}\d{9}", "GB": r"(?:\d{9}|\d{12}|GD\d{3}|HA\d{3})", "HR": r"\d{11}",
    "HU": r"\d{8}", "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]{1,2}", "IT": r"\d{11}", "LT": r"(?:\d{9}|\d{12})", "LU": r"\d{8}",
    "LV": r"\d{11}", "MT": r"\d{8}", "NL": r"\d{9}B\d{2}", "NO": r"\d{9}(?:MVA)?", "PL": r"\d{10}", "PT": r"\d{9}",
    "RO": r"\d{2,10}", "SE": r"\d{12}", "SI": r"\d{8}", "SK": r"\d{10}", "XI": r"(?:\d{9}|\d{12})",
}  # fmt: skip


class NotAValue(ValueError):
    """What was read cannot be a value of the wanted type; the message finishes the sentence "<value> ..."."""


def one_line(raw: str) -> str:
    """`raw` in Unicode form NFC on one line, without invisible characters and outer space."""
    return " ".join(_INVISIBLE.sub("", unicodedata.normalize("NFC", raw)).split())


def email(raw: str) -> str:
    """The one address in `raw`, domain in lower case (RFC 5321 section 2.4). Raises NotAValue."""
    found = set(_EMAIL.findall(raw))
    if len(found) != 1:
        raise NotAValue("holds more than one e-mail address" if found else "is no e-mail address")
    local, _, domain = found.pop().rpartition("@")
    return f"{local}@{domain.lower()}"


def iban(raw: str) -> str:
    """The IBAN in `raw` without spaces (ISO 13616; check digits ISO 7064 mod 97-10). Raises NotAValue."""
    compact = re.sub(r"[\s.-]", "", raw).upper().removeprefix("IBAN").lstrip(":")
    wanted = _IBAN_LENGTHS.get(compact[:2])
    if wanted is None or not re.fullmatch(r"[A-Z]{2}\d{2}[A-Z0-9]+", compact):
        raise NotAValue("is no IBAN")
    if len(compact) != wanted:
        raise NotAValue(f"has {len(compact)} characters; an IBAN of {compact[:2]} has {wanted}")
    if int("".join(str(int(c, 36)) for c in compact[4:] + compact[:4])) % 97 != 1:
        raise NotAValue("has wrong check digits")
    return compact


def vat(raw: str) -> str:
    """The VAT number in `raw` with its country prefix (VIES; check digits of AT, BE, DE, FR, IT). Raises NotAValue."""
    compact = re.sub(r"[\s./-]", "", raw).upper()
    prefix = "CHE" if compact.startswith("CHE") else compact[:2].replace("GR", "EL")
    body = compact[len(prefix) :]
    form = _VAT_FORMS.get(prefix)
    if form is None or not re.fullmatch(form, body):
        raise NotAValue("is no VAT number")
    check = _VAT_CHECKS.get(prefix)
    if check is not None and not check(body):
        raise NotAValue("has wrong check digits")
    return prefix + body


def _german(body: str) -> bool:
    product = 10
    for digit in body[:8]:
        total = (int(digit) + product) % 10 or 10
        product = 2 * total % 11
    return (11 - product) % 10 == int(body[8])


def _french(body: str) -> bool:
    return not body[:2].isdigit() or int(body[:2]) == (12 + 3 * (int(body[2:]) % 97)) % 97


def _belgian(body: str) -> bool:
    return 97 - int(body[:8]) % 97 == int(body[8:])


def _italian(body: str) -> bool:
    doubled = [int(d) if i % 2 == 0 else sum(divmod(2 * int(d), 10)) for i, d in enumerate(body)]
    return sum(doubled) % 10 == 0


def _austrian(body: str) -> bool:
    digits = [int(d) for d in body[1:]]
    total = sum(sum(divmod(2 * d, 10)) if i % 2 else d for i, d in enumerate(digits[:7]))
    return (96 - total) % 10 == digits[7]


_VAT_CHECKS = {"DE": _german, "FR": _french, "BE": _belgian, "IT": _italian, "AT": _austrian}
