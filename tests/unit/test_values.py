"""tasks/values.py and tasks/identifiers.py: every written form has one normal form, or a reason why it has none."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.identifiers import NotAValue
from tasks.values import Hints, currencies_in, dates_in, normalise

DAY_FIRST, MONTH_FIRST = Hints(day_first=True), Hints(day_first=False)
COMMA, POINT = Hints(decimal_comma=True), Hints(decimal_comma=False)


@pytest.mark.parametrize(
    "written",
    [
        "14. März 2026",
        "March 14th, 2026",
        "14 mars 2026",
        "14/03/2026",
        "03/14/2026",
        "14.3.26",
        "2026-03-14T10:00:00Z",
        "Saturday, 14 March 2026",
        "14 de marzo de 2026",
        "14-Mar-2026",
        "20260314",
        "the 14th of March 2026",
    ],
)
def test_dates_of_many_habits_become_iso(written: str) -> None:
    """A date means the same however it is written."""
    assert normalise("date", written) == "2026-03-14"


def test_a_date_of_unclear_order_is_settled_by_the_document_or_refused() -> None:
    """03/04/2026 is never guessed."""
    assert normalise("date", "03/04/2026", DAY_FIRST) == "2026-04-03"
    assert normalise("date", "03/04/2026", MONTH_FIRST) == "2026-03-04"
    with pytest.raises(NotAValue, match="day/month or month/day"):
        normalise("date", "03/04/2026")
    assert normalise("date", "04/04/2026") == "2026-04-04"


@pytest.mark.parametrize(
    "written", ["30 days net", "31/02/2026", "soon", "2026", "14.03.2026 - 15.03.2026", "99.99.2026"]
)
def test_what_is_no_single_date_is_refused(written: str) -> None:
    """Terms, impossible days and periods are no dates."""
    with pytest.raises(NotAValue):
        normalise("date", written)


@given(st.dates(min_value=date(1980, 1, 1), max_value=date(2079, 12, 31)))
def test_every_day_survives_every_unambiguous_form(day: date) -> None:
    """Writing a date and reading it again gives the same day."""
    months = ["January", "February", "March", "April", "May", "June"]
    months += ["July", "August", "September", "October", "November", "December"]
    name = months[day.month - 1]
    for written in (
        day.isoformat(),
        f"{day.day}. {day.month}. {day.year}",
        f"{name} {day.day}, {day.year}",
        f"{day.day} {name[:3]} {day.year}",
    ):
        assert normalise("date", written) == day.isoformat()


@pytest.mark.parametrize(
    ("written", "hints", "value"),
    [
        ("1.234,56 €", Hints(), "1234.56"),
        ("$1,234.56", Hints(), "1234.56"),
        ("1 234,56", Hints(), "1234.56"),
        ("1'234.–", Hints(), "1234"),
        ("(1,234.56)", Hints(), "-1234.56"),
        ("3,40-", Hints(), "-3.40"),
        ("−12", Hints(), "-12"),
        ("EUR450.00", Hints(), "450.00"),
        ("1.234", COMMA, "1234"),
        ("1.234", POINT, "1.234"),
        ("0.234", Hints(), "0.234"),
        ("1,234,567.89", Hints(), "1234567.89"),
        ("12,34,567.00", Hints(), "1234567.00"),
        ("Total: 99", Hints(), "99"),
        ("USD 1,234.5", Hints(), "1234.5"),
        ("1'234.56", Hints(), "1234.56"),
        ("1\u202f234,56 €", Hints(), "1234.56"),
    ],
)
def test_decimals_of_many_habits_become_plain(written: str, hints: Hints, value: str) -> None:
    """Grouping, decimal marks, signs and currency signs are understood, the number of decimals is kept."""
    assert normalise("decimal", written, hints) == value


@pytest.mark.parametrize("written", ["1.234", "1,234", "1.2.3,4", "none", "12 and 13", "12,34,5.00"])
def test_unclear_or_broken_numbers_are_refused(written: str) -> None:
    """What may be a thousand or a fraction is not guessed."""
    with pytest.raises(NotAValue):
        normalise("decimal", written)


@given(st.decimals(min_value=0, max_value=10**9, places=2), st.sampled_from(["en", "de", "fr", "ch"]))
def test_an_amount_survives_each_locale(amount: Decimal, locale: str) -> None:
    """Writing an amount in a locale and reading it again gives the same amount."""
    english = f"{amount:,.2f}"
    marks = {"en": ",.", "de": ".,", "fr": "\u202f,", "ch": "'."}[locale]
    written = english.translate(str.maketrans({",": marks[0], ".": marks[1]}))
    assert Decimal(normalise("decimal", written)) == amount


def test_the_documents_own_numbers_and_dates_tell_its_habits() -> None:
    """Unmistakable values in the text settle the unclear ones; language and currency come after."""
    assert Hints.of("Net 12,50 and 3.000,00").decimal_comma is True
    assert Hints.of("Net 12.50", "de").decimal_comma is False
    assert Hints.of("from 13/02/2026 on").day_first is True
    assert Hints.of("due 02/13/2026", "de").day_first is False
    assert Hints.of("Total $5, see you", "en").day_first is False
    assert Hints.of("VAT and £5", "en").day_first is True
    assert Hints.of("nothing here") == Hints()


@pytest.mark.parametrize(
    ("written", "code"), [("€", "EUR"), ("1.234,56 €", "EUR"), ("US$", "USD"), ("Swiss CHF", "CHF"), ("GBP 12", "GBP")]
)
def test_currencies_become_their_code(written: str, code: str) -> None:
    """Signs, codes and words are the same currency."""
    assert normalise("currency", written) == code


def test_two_currencies_or_none_are_refused_and_words_of_language_are_no_currency() -> None:
    """`try` in a sentence is not the Turkish lira."""
    for written in ("EUR or USD", "kg"):
        with pytest.raises(NotAValue):
            normalise("currency", written)
    assert currencies_in("please try it for 5 euros") == [("EUR", (20, 25))]


def test_an_iban_needs_its_length_and_its_check_digits() -> None:
    """A single wrong digit is found."""
    assert normalise("iban", "IBAN: DE89 3704 0044 0532 0130 00") == "DE89370400440532013000"
    with pytest.raises(NotAValue, match="wrong check digits"):
        normalise("iban", "DE89370400440532013001")
    with pytest.raises(NotAValue, match="has 21 characters; an IBAN of DE has 22"):
        normalise("iban", "DE8937040044053201300")
    with pytest.raises(NotAValue, match="is no IBAN"):
        normalise("iban", "XX89370400440532013000")


@pytest.mark.parametrize(
    ("written", "number"),
    [
        ("DE 136 695 976", "DE136695976"),
        ("USt-IdNr.: DE136695976", "DE136695976"),
        ("ATU13585627", "ATU13585627"),
        ("FR 40 303265045", "FR40303265045"),
        ("BE0428759497", "BE0428759497"),
        ("IT00743110157", "IT00743110157"),
        ("CHE-123.456.788 MWST", "CHE123456788MWST"),
        ("GR 094259216", "EL094259216"),
        ("NL004495445B01", "NL004495445B01"),
        ("PL 856-734-62-15", "PL8567346215"),
        ("ESB58378431", "ESB58378431"),
        ("GB 980 7806 84", "GB980780684"),
        ("NO 995 525 828 MVA", "NO995525828MVA"),
    ],
)
def test_vat_numbers_with_right_digits_pass(written: str, number: str) -> None:
    """Spaces and captions go, the country's letters stay."""
    assert normalise("vat_id", written) == number


@pytest.mark.parametrize(
    "number",
    [
        "DE136695975", "ATU13585628", "FR41303265045", "BE0428759498", "IT00743110158", "CHE123456787",
        "EL094259217", "NL004495446B01", "PL8567346216", "GB980780685", "NO995525829MVA",
    ],
)  # fmt: skip
def test_vat_numbers_with_wrong_digits_are_refused(number: str) -> None:
    """One wrong digit is enough."""
    with pytest.raises(NotAValue, match="has wrong check digits"):
        normalise("vat_id", number)


def test_what_has_no_country_is_no_vat_number() -> None:
    """A domestic tax number is another thing."""
    for written in ("136695976", "ZZ1", "DE12", "021/815/08151"):
        with pytest.raises(NotAValue, match="is no VAT number"):
            normalise("vat_id", written)


@pytest.mark.parametrize(
    ("written", "region"),
    [
        ("+49 30 123456", ""),
        ("+49 (0)30 / 12 34 56", ""),
        ("Tel. +49-30-123456", ""),
        ("030 123456", "DE"),
        ("0049 30 123456", "FR"),
    ],
)
def test_telephone_numbers_become_international(written: str, region: str) -> None:
    """One number has one form, whatever its grouping; the region serves where the country's code is missing."""
    assert normalise("phone", written, Hints(region=region)) == "+4930123456"


@pytest.mark.parametrize(
    ("written", "region", "wrong"),
    [
        ("030 123456", "", "has no country code"),
        ("+49 1", "", "telephone number"),
        ("call me", "DE", "telephone number"),
        ("12", "DE", "telephone number"),
    ],
)
def test_a_telephone_number_is_not_guessed(written: str, region: str, wrong: str) -> None:
    """Neither its country nor its missing digits."""
    with pytest.raises(NotAValue, match=wrong):
        normalise("phone", written, Hints(region=region))


def test_many_dates_are_found_in_time_that_grows_with_the_text() -> None:
    """A list of 20,000 dates takes seconds at most, not the square of it."""
    text = "03.05.2026 2026-05-04\n" * 10_000
    found = dates_in(text, Hints())
    assert len(found) == 20_000
    assert found[-1] == ("2026-05-04", (len(text) - 11, len(text) - 1))


def test_the_other_types() -> None:
    """E-mail addresses, whole numbers, yes and no, and text."""
    assert normalise("email", "Write to Jo <Jo.B@Example.ORG>!") == "Jo.B@example.org"
    assert normalise("integer", "1.500 Stück", COMMA) == "1500"
    assert normalise("boolean", "Ja") == "true"
    assert normalise("boolean", "false") == "false"
    assert normalise("text", "  a\u200b  b\n c ") == "a b c"
    for kind, written in [
        ("email", "a@b"),
        ("integer", "1.5"),
        ("boolean", "maybe"),
        ("text", " "),
        ("text", "x" * 501),
    ]:
        with pytest.raises(NotAValue):
            normalise(kind, written)


@given(
    st.text(max_size=300),
    st.sampled_from(["date", "decimal", "integer", "currency", "email", "iban", "vat_id", "phone", "boolean"]),
)
def test_no_text_makes_a_reader_fall_over(written: str, kind: str) -> None:
    """Whatever is written: a value or NotAValue."""
    told = ""
    try:
        told = normalise(kind, written, COMMA)
    except NotAValue as error:
        told = str(error)
    assert told
    dates_in(written, DAY_FIRST)
