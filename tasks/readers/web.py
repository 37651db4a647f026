"""HTML to text: blocks as lines, table rows as lines with tabs, what a browser would not show left out and told."""

from __future__ import annotations

import re
from typing import NamedTuple

from selectolax.lexbor import LexborHTMLParser, LexborNode

from tasks.errors import Unreadable
from tasks.readers.charset import decode
from tasks.readers.content import Content, Source

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
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())  # noqa: SIM905 -- a list of words reads better
_SELF_CLOSING = frozenset("p li td th tr dt dd option tbody thead tfoot colgroup".split())  # noqa: SIM905 -- a list of words reads better
"""Elements that another of their kind closes: many of them in a row are no depth."""
_TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)[^>]*?(/?)>")
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([a-zA-Z0-9_:.-]{2,40})", re.I)
_HIDING = re.compile(
    r"display\s*:\s*none|visibility\s*:\s*(hidden|collapse)|mso-hide\s*:\s*all|opacity\s*:\s*(?:0+(?:\.0*)?|\.0+)(?![\d.])"
    r"|font-size\s*:\s*0*(\.0+)?(px|pt|em|rem|%)?\s*(;|!|$)|text-indent\s*:\s*-\d{3,}|(left|top)\s*:\s*-\d{4,}",
    re.I,
)
_TINY_BOX = re.compile(r"(?<![-\w])(max-)?(height|width)\s*:\s*0(px)?\s*(;|!|$)", re.I)
_COLOUR = re.compile(r"(?<![-\w])color\s*:\s*([^;!]+)", re.I)
_BACKGROUND = re.compile(r"background(?:-color)?\s*:\s*([^;!]+)", re.I)
_WHITE = frozenset({"#fff", "#ffffff", "white", "rgb(255,255,255)", "rgba(255,255,255,1)", "#fefefe"})
_RULE = re.compile(r"([^{}]{1,200})\{([^{}]{0,2000})\}")
_SIMPLE_SELECTOR = re.compile(r"^[a-z0-9]*([.#][\w-]+)$", re.I)
_AT_BLOCK = re.compile(r"@[a-z-]+[^{};]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}", re.I)
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
)
_SPACES = re.compile(r"[ \t\r\n\f]+")


class _Frame(NamedTuple):
    """An element whose end is still to come."""

    node: LexborNode
    tag: str
    start: int
    """Length of the output when the element began."""


def read(source: Source) -> Content:
    """Text of an HTML file; the charset as MIME or a `<meta>` says.

    Raises:
        Unreadable: elements are nested over 5,000 deep.
    """
    if _too_deep(source.data):
        raise Unreadable(f"the HTML is nested over {DEEPEST} deep")
    declared = _META_CHARSET.search(source.data[:4096])
    text, note = decode(source.data, source.charset or (declared[1].decode("ascii") if declared else ""))
    text, notes = html_to_text(text)
    return Content(text=text, notes=(*((note,) if note else ()), *notes))


def _too_deep(data: bytes) -> bool:
    """Counts open tags in one pass. An over-estimate where end tags are missing, so the bound is generous."""
    depth = 0
    for closing, name, empty in _TAG.findall(data):
        tag = name.lower().decode("ascii")
        if tag in _VOID or tag in _SELF_CLOSING or empty:
            continue
        depth = max(0, depth - 1) if closing else depth + 1
        if depth > DEEPEST:
            return True
    return False


def html_to_text(html: str) -> tuple[str, tuple[str, ...]]:
    """Visible text of `html`, and notes on what was hidden in it."""
    invisible = len(_INVISIBLE.findall(html))
    tree = LexborHTMLParser(_INVISIBLE.sub("", html))
    writer = _Writer(_hiding_names(tree))
    writer.walk(tree.root)
    notes = []
    if writer.hidden:
        notes.append(f"{writer.hidden} characters that a reader would not see were left out")
    if invisible > 20:
        notes.append(f"{invisible} zero-width characters were left out")
    return writer.text(), tuple(notes)


def _hiding_names(tree: LexborHTMLParser) -> frozenset[str]:
    """`.class` and `#id` selectors that style sheets outside of @media set to invisible."""
    found: set[str] = set()
    for style in tree.css("style"):
        sheet = _AT_BLOCK.sub("", style.text()[:200_000])
        for selectors, rules in _RULE.findall(sheet):
            if _HIDING.search(rules):
                matches = (_SIMPLE_SELECTOR.match(one.strip()) for one in selectors.split(","))
                found.update(match[1] for match in matches if match)
    return frozenset(found)


class _Writer:
    """Walks the tree without recursion and writes text into a list of pieces."""

    def __init__(self, hiding: frozenset[str]) -> None:
        self.hidden = 0
        self._out: list[str] = []
        self._hiding = hiding
        self._pre = 0

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
            self._words(node.text_content or "")
            return None
        if not node.is_element_node and not node.is_document_node:
            return None
        tag = str(node.tag or "").lower()
        attributes = node.attributes if node.is_element_node else {}
        if tag in _SKIPPED or tag == "input":
            return None
        if self._is_hidden(attributes):
            self.hidden += len(_SPACES.sub(" ", node.text(deep=True)).strip())
            return None
        if tag == "br":
            self._out.append("\n")
        elif tag == "img":
            self._words(f" {attributes.get('alt') or ''} ")
        elif tag in _BLOCKS:
            self._new_line()
        if tag == "li":
            self._out.append("- ")
        child = node.first_child
        if child is not None:
            self._pre += tag == "pre"
            stack.append(_Frame(node, tag, len(self._out)))
        return child

    def _leave(self, frame: _Frame) -> None:
        tag = frame.tag
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

    def _is_hidden(self, attributes: dict[str, str | None]) -> bool:
        if not attributes:
            return False
        if "hidden" in attributes:
            return True
        style = attributes.get("style") or ""
        if style and (
            _HIDING.search(style) or (_TINY_BOX.search(style) and "overflow" in style) or _white_on_white(style)
        ):
            return True
        if not self._hiding:
            return False
        names = {f".{name}" for name in (attributes.get("class") or "").split()} | {f"#{attributes.get('id')}"}
        return not self._hiding.isdisjoint(names)

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


def _white_on_white(style: str) -> bool:
    """The colour of the words is that of their own background, as far as one `style` attribute tells."""
    colour, background = _COLOUR.search(style), _BACKGROUND.search(style)
    if not colour or not background:
        return False
    one, other = (match[1].replace(" ", "").lower() for match in (colour, background))
    return one == other or (one in _WHITE and other in _WHITE)
