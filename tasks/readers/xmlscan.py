"""XML as a stream of events: no tree, no entities of the sender's own, no recursion."""

from __future__ import annotations

from collections.abc import Callable
from xml.parsers import expat

from tasks.errors import Unreadable

_DEEPEST = 2_000

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]
Text = Callable[[str], None]


def local(name: str) -> str:
    """`{namespace}name` without its namespace."""
    return name.rpartition("}")[2]


def scan(data: bytes, *, start: Start, end: End, text: Text) -> None:
    """Call back for every start tag, end tag and text run; names and attribute names come without namespace.

    Raises:
        Unreadable: the XML is not well-formed, declares entities, or is nested over 2,000 deep.
    """
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    depth = 0

    def on_start(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEEPEST:
            raise Unreadable(f"the XML is nested over {_DEEPEST} deep")
        start(local(name), {local(key): value for key, value in attributes.items()})

    def on_end(name: str) -> None:
        nonlocal depth
        depth -= 1
        end(local(name))

    def on_entity(*_declaration: object) -> None:
        raise Unreadable("the XML declares entities of its own, which are not expanded")

    parser.StartElementHandler = on_start
    parser.EndElementHandler = on_end
    parser.CharacterDataHandler = text
    parser.EntityDeclHandler = on_entity
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise Unreadable(f"the XML is damaged: {error}") from error
    except (LookupError, ValueError) as error:
        raise Unreadable(f"the XML's encoding cannot be read: {error}") from error
