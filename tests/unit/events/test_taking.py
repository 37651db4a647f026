"""An event taken apart: what stays in its own text, and what becomes a document."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.events import EventSpec
from tasks.events import taking
from tasks.events.taking import Taken, take_apart
from tests.unit.samples import job

SPEC = EventSpec.model_validate(
    {
        "documents": [
            {"each": "$.files[*]", "base64": "$.data", "name": "$.name", "type": "$.type"},
            {"each": "$.links[*]", "url": "$"},
            {"text": "$.note"},
        ]
    }
)
LONG = base64.b64encode(b"x" * 90).decode()


def taken(event: Any, spec: EventSpec = SPEC) -> Taken:
    raw = json.dumps(event).encode()
    found = take_apart(job(content_type="application/json"), raw, spec, Path("nowhere"))
    assert found is not None
    return found


def test_what_became_a_document_leaves_a_remark() -> None:
    """Long base64, long texts, and links without their query; short strings stay, and so does all else."""
    event = {
        "total": 120.5,
        "files": [
            {"name": "a.pdf", "data": LONG},
            {"name": "b.txt", "data": "aGk="},
            {"name": "c", "data": LONG[:-3] + "!"},
        ],
        "links": ["https://h.example/d/r7.pdf?sig=s3cr3t#x"],
        "note": "word " * 30,
    }
    made = taken(event)
    told = json.loads(made.event.data)
    assert told == {
        "total": 120.5,
        "files": [
            {"name": "a.pdf", "data": "[file a.pdf, 90 bytes]"},
            {"name": "b.txt", "data": "aGk="},
            {"name": "c", "data": "[file c, it is not base64]"},
        ],
        "links": ["https://h.example/d/r7.pdf [file r7.pdf]"],
        "note": "[file attachment-5.txt, 150 bytes]",
    }
    assert [(piece.name, url) for piece, url in made.documents if url] == [("r7.pdf", event["links"][0])]


def test_names_are_cleaned_and_made_up() -> None:
    """A path, a direction of writing, or no name at all; a `data:` URL tells the type."""
    files = [
        {"name": "../../etc/\u202epasswd", "data": "aGk="},
        {"data": "data:application/pdf;base64,aGk="},
        {"data": "aGk=", "type": "image/png"},
        {"data": "aGk="},
    ]
    made = taken({"files": files, "links": ["https://h.example", "https://h.example/a%2Fb%20c.pdf?x=/y.exe"]})
    assert [piece.name for piece, _ in made.documents] == [
        "passwd",
        "attachment-2.pdf",
        "attachment-3.png",
        "attachment-4",
        "attachment-5",
        "b c.pdf",
    ]
    assert [piece.claimed for piece, _ in made.documents[1:3]] == ["application/pdf", "image/png"]


def test_all_files_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One string that many paths lead to is decoded only so often."""
    monkeypatch.setattr(taking, "MAX_BYTES", 200)
    made = taken({"files": [{"data": LONG}] * 4})
    assert [piece.status or len(piece.data) for piece, _ in made.documents] == [90, 90, "unreadable", "unreadable"]
    assert made.documents[2][0].reason == "the event's files are too large together"


def test_an_event_that_is_the_file_itself() -> None:
    """A body of one JSON string."""
    made = taken(LONG, EventSpec.model_validate({"documents": [{"base64": "$"}]}))
    assert json.loads(made.event.data) == "[file attachment-1, 90 bytes]"


def test_an_event_that_is_too_deep_to_print_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """How deep the JSON parser goes is Python's affair; what it lets through ends in a reason, not in a crash."""
    deep: Any = {"files": [{"data": LONG}]}
    for _ in range(5000):
        deep = [deep]
    monkeypatch.setattr(taking, "event_of", lambda *_: {"deep": deep, "note": deep})
    made = taken({})
    assert (made.event.status, made.event.reason) == ("unreadable", "nested too deep")
    assert [piece.reason for piece, _ in made.documents] == ["nested too deep"]


def test_bodies_that_are_no_events_are_left_alone() -> None:
    """They are read as they are."""
    assert take_apart(job(content_type="text/plain"), b"hello", SPEC, Path()) is None


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=150) | st.just(LONG),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(st.sampled_from(["files", "links", "note", "data", "name", "type"]), inner, max_size=5)
        ),
        max_leaves=25,
    )
)
def test_any_event_is_taken_apart(event: Any) -> None:
    """Every document has a name, and data, a URL or a reason."""
    raw = json.dumps(event).encode()
    made = take_apart(job(content_type="application/json"), raw, SPEC, Path())
    assert (made is None) == (event is None)
    for piece, url in made.documents if made else ():
        assert piece.name
        assert bool(piece.status) == bool(piece.reason)
        assert url or piece.status or isinstance(piece.data, bytes)
