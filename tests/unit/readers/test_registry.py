"""The contract of every format module: this file tests a new one by its being there."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

from tasks.errors import Unreadable
from tasks.readers import registry
from tasks.readers.content import Content, Source
from tasks.readers.limits import Limits
from tasks.readers.sandbox import child

MODULES = registry.modules()


def test_the_formats_are_found() -> None:
    """The folder is walked: the known families are there."""
    names = {module.__name__.rpartition(".")[2] for module in MODULES}
    assert {"pdf", "office", "ooxml", "sheets", "image", "web", "archive", "message", "structured", "plain"} <= names


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_declares_types_and_read(module: ModuleType) -> None:
    """`TYPES` are lower-case content types that lead back to it; `read(source)` says what it does."""
    assert module.TYPES
    for content_type in module.TYPES:
        assert content_type == content_type.lower()
        assert content_type.count("/") == 1
        assert registry.reader_for(content_type) is module.read
    assert list(inspect.signature(module.read).parameters) == ["source"]
    assert inspect.getdoc(module.read)
    assert inspect.getdoc(module)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"garbage " * 50, bytes(range(256)) * 8], ids=["none", "nul", "text", "all"]
)
@pytest.mark.parametrize("content_type", sorted({t for module in MODULES for t in module.TYPES}))
def test_wrong_bytes_are_unreadable_or_read(content_type: str, data: bytes) -> None:
    """Bytes that are not of the type give text or a reason in plain words, never another error."""
    content_type = content_type.replace("*", "plain")
    request = {"op": "read", "as": content_type, "name": "x", "claimed": content_type, "charset": "", "passwords": []}
    header, blobs = child.answer(request, data, Limits())
    assert header["status"] in ("read", "unreadable")
    if header["status"] == "read":
        assert len(blobs) == len(header["children"])
        assert header["text"] or header["reason"]
    else:
        assert header["reason"]


def test_unknown_types_have_no_reader() -> None:
    """What nothing can read is left alone."""
    assert registry.reader_for("application/x-executable") is None


def test_an_errors_class_is_told() -> None:
    """A library's own error ends as one sentence that names it."""

    def fail(source: Source) -> Content:
        raise KeyError(source.name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry, "reader_for", lambda _type: fail)
        request = {"op": "read", "as": "x/y", "name": "n", "claimed": "", "charset": "", "passwords": []}
        header, _ = child.answer(request, b"x", Limits())
    assert header["status"] == "unreadable"
    assert "KeyError" in header["reason"]
    assert issubclass(Unreadable, Exception)
