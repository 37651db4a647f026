"""Names, languages and tidy text (tasks/readers/names.py, language.py, sandbox/child.py)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.readers.language import language_of
from tasks.readers.names import clean_name
from tasks.readers.sandbox.child import tidy

_TEXTS = {
    "en": "Please find attached the invoice for your order. We thank you for the payment by the end of it.",
    "de": "Bitte finden Sie die Rechnung für Ihre Bestellung im Anhang. Wir danken für die Zahlung bis zum Ende.",
    "fr": "Veuillez trouver la facture pour votre commande. Nous vous remercions de régler avec les conditions.",
    "es": "Adjunto la factura de su pedido. Por favor, realice el pago con la referencia que se indica.",
    "it": "In allegato la fattura per il vostro ordine. Si prega di effettuare il pagamento come indicato nel.",
    "nl": "Bijgevoegd vindt u de factuur voor uw bestelling. Wij danken u en zien het bedrag graag op onze rekening.",
    "pt": "Segue a fatura do seu pedido. Por favor, faça o pagamento com a referência que foi indicada no documento.",
    "pl": "W załączniku przesyłam fakturę za zamówienie. Proszę o płatność do końca miesiąca na konto, które jest.",
}


_FORMS = {
    "en": "Order 4417\nDelivery to: 12 Mill Street\nQuantity 5\nAmount 20.00\nCustomer 88",
    "de": "Bestellung 4417\nDatum: 03.02.2026\nMenge 5 Stück\nKunde Holz Maier\nBetrag 20,00",
    "fr": "Commande 4417\nDate : 03/02/2026\n12 rue Haute\nQuantité 5\nMontant 20,00",
    "es": "Hoja de pedido 4417\nFecha del pedido: 03/02/2026\nPara: Azulejos Norte\nCantidad 5, caja del 12",
    "it": "Ordine 4417\nData 03/02/2026\nVia Alta 12\nQuantità 5\nImporto 20,00",
}


@pytest.mark.parametrize(("language", "text"), [*_TEXTS.items(), *_FORMS.items()])
def test_languages(language: str, text: str) -> None:
    """Two sentences are enough to tell each of the eight languages, and the captions of a form without any."""
    assert language_of(text) == language


@pytest.mark.parametrize("text", ["", "4711", "Total 119.00 EUR", "de la", "日本語のテキスト"])
def test_language_is_empty_when_unsure(text: str) -> None:
    """Too few words, or words of another language, decide nothing."""
    assert language_of(text) == ""


@given(st.text(max_size=400))
def test_clean_names_are_safe(name: str) -> None:
    """No path, control character or overlong name survives; cleaning twice changes nothing."""
    cleaned = clean_name(name)
    assert len(cleaned) <= 200
    assert not set(cleaned) & set('/\\\0\n\r\t<>:"|?*')
    assert cleaned not in (".", "..")
    assert clean_name(cleaned) == cleaned


def test_long_names_keep_their_extension() -> None:
    """The end of a name tells its kind."""
    assert clean_name("x" * 300 + ".pdf").endswith("x.pdf")


@given(st.text(max_size=300))
def test_tidy_text_can_be_stored(text: str) -> None:
    """Tidy text is UTF-8, without control characters but line ends, tabs and form feeds."""
    result = tidy(text)
    result.encode("utf-8")
    assert not [c for c in result if ord(c) < 32 and c not in "\n\t\f"]
