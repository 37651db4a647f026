"""HTML to text: blocks as lines, table rows as lines with tabs, what a browser would not show left out and told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tasks.errors import Unreadable
from tasks.injections import telling
from tasks.invisible import cleaned
from tasks.readers.charset import decode
from tasks.readers.content import Content, Source
from tasks.readers.styles import Look, Sheets

TYPES = ("text/html",)

DEEPEST = 5_000
"""Elements open at once. Parsers take time that grows with the square of it: 300,000 took 35 seconds."""

_BLOCKS = frozenset(
    [
        "address", "article", "aside", "blockquote", "body", "center", "dd", "details", "dialog", "div", "dl",
        "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6",
        "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section", "summary", "table", "tbody",
        "tfoot", "thead", "tr", "ul",
    ]
)  # fmt: skip
_SKIPPED = frozenset("script style head template noscript object embed svg math iframe select datalist".split())  # noqa: SIM905 -- a list of words reads better
_HOLDING_WORDS = frozenset({"template", "noscript", "svg", "math", "select", "datalist", "object"})
"""Those of the skipped elements whose words a reader may see, or an attacker may put there."""
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905 -- a list of words reads better
_SELF_CLOSING = frozenset("p li td th tr dt dd option tbody thead tfoot colgroup".split())  # noqa: SIM905 -- a list of words reads better
"""Elements that another of their kind closes: many of them in a row are no depth."""
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^>]*?(/?)>")
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.I)
_CONDITION = re.compile(r"^\[if\b|^<!\[endif|^\[endif|<!\[endif\]$", re.I)
_SPACES = re.compile(r"[ \t\r\n\f]+")


class _Frame(NamedTuple):
    """An element whose end is still to come."""

    node: LexborNode
    tag: str
    start: int
    """Length of the output when the element began."""
    look: Look
    """Of the words around the element."""


def read(source: Source) -> Content:
    """Text of an HTML file; the charset as MIME or a `<meta>` says.

    Raises:
        Unreadable: elements are nested over 5,000 deep.
    """
    if too_deep(source.data, DEEPEST):
        raise Unreadable(f"the HTML is nested over {DEEPEST} deep")
    declared = _META_CHARSET.search(source.data[:4096])
    text, note = decode(source.data, source.charset or (declared[1].decode("ascii") if declared else ""))
    text, notes = html_to_text(text)
    return Content(text=text, notes=(*((note,) if note else ()), *notes))


def too_deep(data: bytes, most: int) -> bool:
    """Counts open tags in one pass. An over-estimate where end tags are missing, so `most` should be generous."""
    depth = 0
    for found in _TAG.finditer(data):  # findall would take the whole text apart first
        closing, name, empty = found.groups()
        tag = name.lower().decode("ascii")
        if tag in _VOID or tag in _SELF_CLOSING or empty:
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        if depth > most:
            return True
    return False


def html_to_text(html: str) -> tuple[str, tuple[str, ...]]:
    """Visible text of `html`, and notes on what was hidden in it."""
    html, unseen = cleaned(html)
    tree = LexborHTMLParser(html)
    writer = _Writer(Sheets(tree))
    writer.walk(tree.root)
    return writer.text(), (*writer.notes(), *unseen)


class _Writer:
    """Walks the tree without recursion and writes text into a list of pieces."""

    def __init__(self, sheets: Sheets) -> None:
        self._out: list[str] = []
        self._sheets = sheets
        self._look = sheets.root()
        self._hidden: list[str] = []
        self._comments: list[str] = []
        self._unread: list[str] = []
        self._pre = 0

    def notes(self) -> Iterator[str]:
        """What is in the page and not in its text."""
        hidden = " ".join(" ".join(self._hidden).split())
        if hidden:
            yield f"{len(hidden)} characters that a reader would not see were left out{telling(hidden)}"
        comments = "\n".join(self._comments)
        if told := telling(comments):
            yield f"comments of {len(comments)} characters were left out{told}"
        unread = " ".join(" ".join(self._unread).split())
        if unread:
            yield f"{len(unread)} characters in drawings, forms or templates were left out{telling(unread)}"

    def text(self) -> str:
        """What was written, with blank lines reduced to one."""
        lines = [line.strip(" ") for line in "".join(self._out).split("\n")]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n ")

    def walk(self, root: LexborNode | None) -> None:
        """Visit `root` and all below it in document order."""
        stack: list[_Frame] = []
        node = root
        while node is not None:
            child = self._enter(node, stack)
            if child is not None:
                node = child
                continue
            following = node.next if stack or node is not root else None
            while following is None and stack:
                frame = stack.pop()
                self._leave(frame)
                following = frame.node.next if stack else None
            node = following

    def _enter(self, node: LexborNode, stack: list[_Frame]) -> LexborNode | None:
        """Write what `node` begins with; the first child if there is anything below to visit."""
        if node.is_text_node:
            self._text(node.text_content or "")
            return None
        if node.is_comment_node:
            self._comment(node.comment_content or "")
            return None
        if not node.is_element_node and not node.is_document_node:
            return None
        tag = str(node.tag or "").lower()
        attributes = node.attributes if node.is_element_node else {}
        if tag in _SKIPPED or tag == "input":
            if tag in _HOLDING_WORDS:
                self._unread.append(node.text(deep=True, separator=" "))
            return None
        look = self._sheets.look(node, attributes, self._look) if node.is_element_node else self._look
        if look is None:
            self._hidden.append(node.text(deep=True, separator=" "))
            return None
        if tag == "br":
            self._out.append("\n")
        elif tag == "img":
            self._text(f" {attributes.get('alt') or ''} ")
        elif tag in _BLOCKS:
            self._new_line()
        if tag == "li":
            self._out.append("- ")
        child = node.first_child
        if child is not None:
            self._pre += tag == "pre"
            stack.append(_Frame(node, tag, len(self._out), self._look))
            self._look = look
        return child

    def _leave(self, frame: _Frame) -> None:
        tag = frame.tag
        self._look = frame.look
        self._pre -= tag == "pre"
        if tag in ("td", "th"):
            self._out.append("\t")
        elif tag == "tr":
            self._row(frame.start)
        elif tag in ("p", "h1", "h2", "h3", "h4", "h5", "h6", "table", "ul", "ol", "blockquote"):
            self._new_line()
            self._out.append("\n")
        elif tag in _BLOCKS:
            self._new_line()

    def _row(self, start: int) -> None:
        """Make one line of a row of a data table; a row of a layout table keeps its lines."""
        row = "".join(self._out[start:])
        del self._out[start:]
        cells = [cell.strip() for cell in row.removesuffix("\t").split("\t")]
        lines = [len([line for line in cell.split("\n") if line.strip()]) for cell in cells]
        if len(cells) > 1 and max(lines) <= 3:
            # Two or three lines in a cell are an address or a description: still one row of one table.
            row = "\t".join(" ".join(cell.split()) for cell in cells).rstrip("\t")
        else:
            row = "\n".join(cell for cell in cells if cell)
        self._out.append(row + "\n" if row.strip() else "")

    def _comment(self, text: str) -> None:
        if not _CONDITION.search(text.strip()):
            self._comments.append(text)

    def _text(self, text: str) -> None:
        if text.isspace() or self._look.shows():
            self._words(text)
        else:
            self._hidden.append(text)

    def _words(self, text: str) -> None:
        if self._pre:
            self._out.append(text.replace("\t", "    "))
            return
        words = _SPACES.sub(" ", text)
        if words == " " and (not self._out or self._out[-1].endswith((" ", "\n", "\t"))):
            return
        if words:
            self._out.append(words)

    def _new_line(self) -> None:
        if self._out and not self._out[-1].endswith("\n"):
            if self._out[-1].endswith("\t"):
                return
            self._out.append("\n")
