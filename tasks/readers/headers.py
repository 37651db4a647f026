"""Header values as senders really write them: encoded words, split and percent-encoded parameters, raw 8-bit."""

from __future__ import annotations

import binascii
import re
from email.utils import getaddresses
from urllib.parse import unquote_to_bytes

from tasks.invisible import without
from tasks.readers.charset import codec_of

LONGEST = 8 * 1024
"""Characters of one header value that are looked at."""

_WORD = re.compile(r"=\?([^?\s*]{1,60})(?:\*[^?\s]{0,20})?\?([bBqQ])\?([^?]*(?:\?(?!=)[^?]*)*)\?=")
_FOLD = re.compile(r"\r\n|\r|\n")
_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*("(?:[^"\\]|\\.)*"?|[^;]*)', re.DOTALL)
_SECTION = re.compile(r"([^*]+)(?:\*(\d{1,3}))?(\*)?$")


def raw_text(value: str) -> str:
    """A header value out of the compat32 parser, cut to 8 KB and unfolded; 8-bit bytes stay surrogates (PEP 383)."""
    return _FOLD.sub("", value[:LONGEST])


def _eight_bit(value: str) -> str:
    """The raw 8-bit bytes of a value read as UTF-8 (RFC 6532) or else as Windows-1252."""
    if value.isascii():
        return value
    data = value.encode("utf-8", "surrogateescape")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


def decode_words(value: str) -> str:
    """RFC 2047 encoded words decoded, leniently: unknown charsets as UTF-8, bad base64 as far as it goes.

    Neighbouring words of one charset are joined as bytes first, for many senders split a character between two.
    """
    if "=?" not in value:
        return _eight_bit(value)
    out: list[str] = []
    pending, charset, end = b"", "", 0
    for found in _WORD.finditer(value):
        between = value[end : found.start()]
        adjacent = bool(charset) and not between.strip()
        if not (adjacent and found[1].lower() == charset):
            out.append(_to_text(pending, charset))
            pending = b""
            if not adjacent:
                out.append(_eight_bit(between))
        charset, end = found[1].lower(), found.end()
        pending += _from_q(found[3]) if found[2] in "qQ" else from_base64(found[3])
    out += [_to_text(pending, charset), _eight_bit(value[end:])]
    return "".join(out)


def _to_text(data: bytes, charset: str) -> str:
    try:
        text = data.decode(codec_of(charset) or "utf-8")
    except (UnicodeError, ValueError):
        text = data.decode("utf-8", "replace")
    return text.encode("utf-8", "replace").decode("utf-8")  # UTF-7 and UTF-16 can yield half a character


def _from_q(text: str) -> bytes:
    data = text.replace("_", " ").encode("utf-8", "surrogateescape")
    return re.sub(rb"=([0-9A-Fa-f]{2})", lambda found: bytes([int(found[1], 16)]), data)


def from_base64(text: str | bytes) -> bytes:
    """Base64 decoded as far as it goes: foreign characters ignored, missing padding added (RFC 2045 section 6.8)."""
    data = text.encode("ascii", "ignore") if isinstance(text, str) else text
    data = re.sub(rb"[^A-Za-z0-9+/=]+", b"", data)
    core = data.rstrip(b"=")
    if b"=" not in core:
        core = core[: len(core) - 1] if len(core) % 4 == 1 else core
        return binascii.a2b_base64(core + b"=" * (-len(core) % 4))
    return b"".join(from_base64(piece) for piece in re.split(b"=+", core) if piece)


def header_text(value: str) -> str:
    """A header value for people: decoded, white space collapsed, no control characters and none that nobody sees."""
    return " ".join(without(decode_words(raw_text(value))).replace("\0", "").split())


def parameters(value: str) -> tuple[str, dict[str, str]]:
    """The value proper (lower case) and the parameters of Content-Type or Content-Disposition (RFC 2045, RFC 2231).

    Continuations (`name*0*=`), percent encoding with charset and, against the RFC but common, encoded words and raw
    8-bit are all understood. The first of two parameters of one name wins.
    """
    value = raw_text(value)
    main = value.partition(";")[0].strip().lower()
    pieces: dict[str, list[tuple[int, bool, str]]] = {}
    for name, content in _PARAMETER.findall(value if ";" in value else ""):
        section = _SECTION.match(name.lower())
        if section:
            pieces.setdefault(section[1], []).append((int(section[2] or 0), bool(section[3]), _unquote(content)))
    return main, {name: _assemble(found) for name, found in pieces.items()}


def _unquote(content: str) -> str:
    content = content.strip()
    if not content.startswith('"'):
        return content
    content = content[1:].removesuffix('"')
    return re.sub(r'\\(["\\])', r"\1", content)


def _assemble(found: list[tuple[int, bool, str]]) -> str:
    extended = [piece for piece in found if piece[1]]
    if not extended:
        numbers = [piece[0] for piece in found]
        ordered = sorted(found) if len(set(numbers)) == len(numbers) else found[:1]
        return decode_words("".join(piece[2] for piece in ordered))
    # Several senders write both `name=` and `name*=`: the percent-encoded one is the better of the two.
    ordered = sorted(found if len({piece[0] for piece in found}) == len(found) else extended)
    charset, quote, rest = ordered[0][2].partition("'")
    first = rest.partition("'")[2] if quote and "'" in rest else ordered[0][2]
    data = b"".join(
        unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
        if percent
        else text.encode("utf-8", "surrogateescape")
        for percent, text in [(ordered[0][1], first), *((piece[1], piece[2]) for piece in ordered[1:])]
    )
    return _to_text(data, charset if quote else "utf-8")


def addresses(value: str) -> list[tuple[str, str]]:
    """(display name, address) of each mailbox in an address header (RFC 5322 section 3.4); the name decoded.

    Parsed before the encoded words are decoded, since a decoded name may hold commas and angle brackets.
    """
    found = []
    try:
        parsed = getaddresses([raw_text(value)])
    except (RecursionError, ValueError, IndexError, TypeError):  # comments in comments, and what else there is
        return []
    for name, address in parsed:
        shown = "".join(decode_words(address).split())
        if shown or name:
            found.append((" ".join(without(decode_words(name)).split()), shown))
    return found
