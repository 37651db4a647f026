"""Which mail of a folder is taken: matched here, on what the header says, never by a server's SEARCH.

Servers differ in how they search, some refuse every charset but ASCII, and a search for "Müller" that finds nothing
looks like a folder without mail. A header of a few kilobytes is fetched instead, and read like any other.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

from config.imap import ImapFilter
from tasks.mailhead import VALUE_LIMIT, fields
from tasks.readers.headers import addresses, header_text, raw_text

MOST_ADDRESSES = 200
"""Recipients that are compared."""
DEEPEST = 50
"""Levels of a BODYSTRUCTURE that are followed."""
_RECIPIENTS = frozenset({b"to", b"cc", b"delivered-to", b"x-original-to"})
_TOKEN = re.compile(rb'\{\d+\}\s?|"((?:[^"\\]|\\.)*)"|([()])|([^\s()"]+)')

Tree = list["Tree | str"]


def passed_over_because(wanted: ImapFilter, size: int, head: bytes = b"", structure: bytes = b"") -> str:
    """Why a message is not taken, in words; empty when it is. `head` and `structure` may be left out when unused.

    A server that tells no structure keeps no mail from being taken: passed over is for good.
    """
    if wanted.max_size and size > wanted.max_size:
        return f"{size} bytes are more than filter.max_size = {wanted.max_size}"
    if not wanted.reads_header:
        return ""
    values = _values(head)
    for option, found in (("sender", "from"), ("recipient", "recipient"), ("subject", "subject")):
        patterns: tuple[str, ...] = getattr(wanted, option)
        if patterns and not _fits(patterns, values[found]):
            return f"its {option} fits none of filter.{option}"
    found_one = has_attachment(structure) if wanted.has_attachment is not None else None
    if found_one is not None and found_one is not wanted.has_attachment:
        return "it has no attachment" if wanted.has_attachment else "it has an attachment"
    return ""


def has_attachment(structure: bytes) -> bool | None:
    """Whether a BODYSTRUCTURE (RFC 9051 section 7.5.2) holds a part that a person would call an attachment.

    That is a part with a file name or marked `attachment`, a message inside, or one that is neither text nor a picture
    of the text. A signed mail's signature is none. None: the server does not tell.
    """
    start = structure.upper().find(b"BODYSTRUCTURE")
    if start < 0:
        return None
    tree = _parsed(structure[start + len(b"BODYSTRUCTURE") :])
    return _holds(tree[0], 0) if tree and isinstance(tree[0], list) and tree[0] else None


def _holds(part: Tree, depth: int) -> bool:
    if depth > DEEPEST or not part:
        return False
    if isinstance(part[0], list):  # a multipart: its parts come first
        return any(isinstance(one, list) and one and _is_part(one) and _holds(one, depth + 1) for one in part)
    kind = str(part[0]).lower()
    subtype = str(part[1]).lower() if len(part) > 1 else ""
    content_id = part[3] if len(part) > 3 else "NIL"
    words = {word.lower() for one in part[2:] if isinstance(one, list) for word in _flat(one, 0)}
    if subtype in {"pkcs7-signature", "pgp-signature", "x-pkcs7-signature"}:
        return False
    if kind == "image" and content_id != "NIL" and "attachment" not in words:
        return False
    if kind == "message":
        return subtype == "rfc822"
    return "attachment" in words or bool(words & {"filename", "name", "filename*", "name*"}) or kind != "text"


def _is_part(tree: Tree) -> bool:
    """A part begins with a part (multipart) or with type and subtype; parameter lists begin with a name and a value."""
    return isinstance(tree[0], list) or len(tree) >= 7


def _flat(tree: Tree, depth: int) -> list[str]:
    if depth > DEEPEST:
        return []
    return [word for one in tree for word in (_flat(one, depth + 1) if isinstance(one, list) else [one])]


def _parsed(text: bytes) -> Tree:
    """Parentheses as lists. Never raises: what is not closed ends where the text ends."""
    root: Tree = []
    open_lists: list[Tree] = [root]
    for found in _TOKEN.finditer(text):
        if found[2] == b"(":
            inner: Tree = []
            open_lists[-1].append(inner)
            open_lists.append(inner)
        elif found[2] == b")":
            if len(open_lists) == 1:
                break
            open_lists.pop()
        elif (word := found[1] if found[1] is not None else found[3]) is not None:
            open_lists[-1].append(word.decode("utf-8", "replace"))
    return root


def _values(head: bytes) -> dict[str, list[str]]:
    """What filters look at, in lower case."""
    values: dict[str, list[str]] = {"from": [], "recipient": [], "subject": []}
    for name, field in fields(head):
        if name not in {b"from", b"subject"} and name not in _RECIPIENTS:
            continue
        text = raw_text(field[:VALUE_LIMIT].partition(b":")[2].decode("ascii", "surrogateescape"))
        if name == b"subject":
            values["subject"].append(header_text(text).lower())
        else:
            where = "from" if name == b"from" else "recipient"
            values[where] += [address.lower() for _, address in addresses(text)[:MOST_ADDRESSES]]
    return values


def _fits(patterns: Sequence[str], values: Sequence[str]) -> bool:
    return any(fnmatch.fnmatchcase(value, pattern.lower()) for pattern in patterns for value in values)
