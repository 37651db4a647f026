"""The demo's inputs and their reader."""

from __future__ import annotations

import shutil
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from daemon.demo import make_documents
from daemon.demo.inputs import InputError, Mail, Request, read_inputs
from daemon.demo.run import INPUTS
from tests.e2e import make_documents as second_documents

SECOND = Path(__file__).parent / "inputs"
BOTH = pytest.mark.parametrize("folder", [INPUTS, SECOND], ids=["demo", "e2e"])


@BOTH
def test_every_way_in_is_used(folder: Path) -> None:
    """A set goes through all five doors, and sends something twice."""
    inputs = read_inputs(folder)
    assert {item.by for item in inputs} == {"smtp", "lmtp", "imap", "webhook", "folder"}
    assert {item.delivery.scheme for item in inputs if isinstance(item.delivery, Request)} == {"standard", "github"}
    assert any(item.expected.duplicate_of for item in inputs)


@BOTH
def test_addresses_are_nobodys(folder: Path) -> None:
    """All mail addresses lie below .example, which nobody can register (RFC 2606)."""
    for item in read_inputs(folder):
        if isinstance(item.delivery, Mail):
            assert all(x.strip(" >").endswith(".example") for x in (item.delivery.from_, item.delivery.to))


@BOTH
def test_attachments_are_small(folder: Path) -> None:
    """What is committed stays below 60 KB a file."""
    assert max(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 60_000


@pytest.mark.parametrize(("module", "folder"), [(make_documents, INPUTS), (second_documents, SECOND)])
def test_documents_can_be_made_again(module: object, folder: Path, tmp_path: Path) -> None:
    """The committed attachments are what the script makes, to the byte."""
    made = module.MADE  # type: ignore[attr-defined]
    make_documents.write(made, tmp_path)
    for name in made:
        if not name.endswith(".png"):  # Pillow's bundled font and zlib differ between versions
            assert (tmp_path / name).read_bytes() == (folder / name).read_bytes(), name


def test_mail_carries_what_the_folder_holds() -> None:
    """Text, HTML and attachments of the folder stand in the message; a repeat is equal to the byte."""
    inputs = {item.name: item for item in read_inputs(INPUTS)}
    mail = message_from_bytes(inputs["07-two-attachments"].payload, policy=policy.default)
    assert [part.get_filename() for part in mail.iter_attachments()] == ["purchase-order-FB-7731.pdf", "items.csv"]
    news = message_from_bytes(inputs["06-newsletter"].payload, policy=policy.default)
    assert [part.get_content_type() for part in news.iter_parts()] == ["text/plain", "text/html"]
    assert news["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert inputs["11-invoice-again"].payload == inputs["01-invoice-pdf"].payload


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        ("mail.toml", 'by = "pigeon"', "mail.toml: by"),
        ("mail.toml", "by = ", "mail.toml: Invalid value"),
        ("expected.toml", "labl = 'invoice'", "expected.toml: labl"),
        ("expected.toml", "duplicate_of = 'nothing'", "names no earlier input"),
        ("mail.toml", 'by = "smtp"\nsame_as = "nothing"', "names no earlier input"),
    ],
)
def test_a_wrong_input_is_named(tmp_path: Path, file: str, text: str, words: str) -> None:
    """A wrong file is told with its name and what is wrong in it."""
    shutil.copytree(INPUTS / "01-invoice-pdf", tmp_path / "one")
    (tmp_path / "one" / file).write_text(text)
    with pytest.raises(InputError, match=words):
        read_inputs(tmp_path)


def test_a_missing_attachment_is_named(tmp_path: Path) -> None:
    """An attachment that is not there is told with its path."""
    shutil.copytree(INPUTS / "01-invoice-pdf", tmp_path / "one")
    (tmp_path / "one" / "invoice-NTH-20418.pdf").unlink()
    with pytest.raises(InputError, match=r"invoice-NTH-20418\.pdf"):
        read_inputs(tmp_path)


def test_a_folder_without_inputs_is_told(tmp_path: Path) -> None:
    """An empty folder and a missing one are told apart."""
    with pytest.raises(InputError, match="holds no input"):
        read_inputs(tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        read_inputs(tmp_path / "missing")
