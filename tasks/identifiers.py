"""Identifiers that carry their own check: addresses, IBANs, VAT and telephone numbers; and the cleaning all share."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

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

VAT_PREFIXES = (
    "AT", "BE", "BG", "CHE", "CY", "CZ", "DE", "DK", "EE", "EL", "ES", "FI", "FR", "GB", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "NO", "PL", "PT", "RO", "SE", "SI", "SK", "XI",
)  # fmt: skip
"""The European Union's, Northern Ireland's, and those of Switzerland, the United Kingdom and Norway."""


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


def vat_id(raw: str) -> str:
    """The VAT number in `raw` with its country prefix, its check digits reckoned. Raises NotAValue."""
    from stdnum.ch import uid as swiss  # noqa: PLC0415 - few jobs have such a field
    from stdnum.eu import vat as european  # noqa: PLC0415
    from stdnum.exceptions import InvalidChecksum, ValidationError  # noqa: PLC0415
    from stdnum.gb import vat as british  # noqa: PLC0415
    from stdnum.no import orgnr as norwegian  # noqa: PLC0415

    compact = re.sub(r"^GR", "EL", re.sub(r"[\s./-]", "", raw.rpartition(":")[2]).upper())
    prefix = next((one for one in VAT_PREFIXES if compact.startswith(one)), "")
    if not prefix:
        raise NotAValue("is no VAT number: it begins with no country's letters")
    others = {"CHE": swiss.validate, "GB": british.validate, "NO": norwegian.validate}
    number = re.sub(r"(?:MWST|TVA|IVA|MVA)$", "", compact)
    try:
        others.get(prefix, european.validate)(number.removeprefix("NO"))
    except InvalidChecksum:
        raise NotAValue("has wrong check digits") from None
    except ValidationError:
        raise NotAValue(f"is no VAT number of {prefix}") from None
    return compact


def phone(raw: str, region: str = "") -> str:
    """The telephone number in `raw` as ITU-T E.164 writes it (`+4930123456`), an extension left out.

    `region` (ISO 3166) is the country of numbers without a country code. Raises NotAValue, also for such a number
    when there is no region: which country it is of is not guessed.
    """
    import phonenumbers  # noqa: PLC0415 - few jobs have such a field

    try:
        number = phonenumbers.parse(raw, region or None)
    except phonenumbers.NumberParseException as error:
        if error.error_type == phonenumbers.NumberParseException.INVALID_COUNTRY_CODE and re.search(r"\d{3}", raw):
            raise NotAValue("has no country code; give the field a `region`") from None
        raise NotAValue("is no telephone number") from None
    if not phonenumbers.is_valid_number(number):
        raise NotAValue("is no telephone number that can be")
    return str(phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164))


_DIALLED = re.compile(r"(?<![\w.,])[+(]{0,2}\d(?:[\s()/.\u2010-\u2015-]{0,3}\d){5,18}(?!\w)")


def phones_in(text: str, number: str) -> Iterator[tuple[int, int]]:
    """Where `number` (E.164) stands in `text`, with or without its country's code, however it is grouped."""
    for match in _DIALLED.finditer(text):
        digits = re.sub(r"\D", "", match[0].replace("(0)", ""))
        code = number[1:].removesuffix(digits.lstrip("0")) if number.endswith(digits.lstrip("0")) else None
        if code is not None and len(code) <= 3:
            yield match.span()
