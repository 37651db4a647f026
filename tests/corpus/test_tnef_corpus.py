"""The shared set of winmail.dat files: every attachment that its lists name is found."""

from __future__ import annotations

import re

import pytest

from tasks.readers import tnef
from tasks.readers.content import Source
from tests.corpus.places import MAIL, needs_mail

pytestmark = [pytest.mark.corpus, needs_mail]

_BODY = re.compile(r"body\.(rtf|html)|Untitled[ _]Attachment|")


def test_attachments_are_found() -> None:
    """The names equal the list's, leaving out the body and names that its program made up."""
    files = sorted(MAIL.glob("mimekit/tnef_*.tnef"))
    assert len(files) > 10
    for path in files:
        content = tnef.read(Source(data=path.read_bytes()))
        listed = path.with_suffix(".list")
        if listed.exists():
            wanted = {name for name in listed.read_text().splitlines() if not _BODY.fullmatch(name)}
            assert wanted <= {child.name for child in content.children}, path.name
            assert content.text or content.children, path.name
