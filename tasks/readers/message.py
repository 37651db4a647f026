"""Mails inside mails and mails as files: `.eml`, Outlook's `.msg`, and forms, which share MIME's structure."""

from __future__ import annotations

from oxmsg import Message as OutlookMessage
from oxmsg.attachment import Attachment

from tasks.readers import headers
from tasks.readers.charset import decode
from tasks.readers.content import Child, Content, Source
from tasks.readers.mail import ParsedMail, Part, parse
from tasks.readers.names import clean_name
from tasks.readers.web import html_to_text

TYPES = ("message/rfc822", "application/vnd.ms-outlook", "multipart/form-data")


def read(source: Source) -> Content:
    """Header lines that people read, then the body; attachments are children."""
    if source.content_type == "application/vnd.ms-outlook":
        return _outlook(source.data)
    if source.content_type == "multipart/form-data":
        return _form(source)
    return _internet(parse(source.data))


def _internet(parsed: ParsedMail) -> Content:
    facts = parsed.facts
    sender = f"{facts.from_name} <{facts.from_address}>" if facts.from_name else facts.from_address
    head = _head(sender, ", ".join(facts.to), ", ".join(facts.cc), facts.date, facts.subject)
    notes = list(parsed.notes)
    children = tuple(
        Child(part.name, part.data, part.content_type, part.charset) for part in parsed.parts if not part.is_body
    )
    return Content(text=head + _body(parsed.parts, notes), notes=tuple(notes), children=children)


def _head(sender: str, to: str, copied: str, date: str, subject: str) -> str:
    lines = (("From", sender), ("To", to), ("Cc", copied), ("Date", date), ("Subject", subject))
    return "".join(f"{name}: {value}\n" for name, value in lines if value) + "\n"


def _body(parts: tuple[Part, ...], notes: list[str]) -> str:
    bodies: dict[int, dict[str, str]] = {}
    for part in parts:
        if part.is_body:
            text, note = decode(part.data, part.charset)
            if note and part.data.strip():
                notes.append(note)
            group = bodies.setdefault(part.group, {})
            group[part.content_type] = (group.get(part.content_type, "") + "\n\n" + text).strip()
    texts = []
    for group in bodies.values():
        text = group.get("text/plain", "")
        if not text and "text/html" in group:
            text, hidden = html_to_text(group["text/html"])
            notes.extend(hidden)
        texts.append(text)
    return "\n\n".join(texts)


def _form(source: Source) -> Content:
    """RFC 7578: fields as `name: value` lines, files as children."""
    parsed = parse(b"Content-Type: " + source.claimed.encode("ascii", "replace") + b"\r\n\r\n" + source.data)
    lines, children = [], []
    for part in parsed.parts:
        field = part.parameters.get("field", "")
        if part.name or not part.is_body:
            children.append(Child(part.name, part.data, part.content_type, part.charset))
            lines.append(f"{field}: (file {part.name})")
        else:
            lines.append(f"{field}: {decode(part.data, part.charset or 'utf-8')[0]}")
    return Content(text="\n".join(lines), notes=parsed.notes, children=tuple(children))


def _outlook(data: bytes) -> Content:
    """MS-OXMSG. The HTML body is used where there is no plain one."""
    message = OutlookMessage.load(data)
    notes: list[str] = []
    body = (message.body or "").strip()
    if not body and message.html_body:
        body, hidden = html_to_text(message.html_body)
        notes.extend(hidden)
    to = ", ".join(f"{person.name} <{person.email_address}>" for person in message.recipients)
    date = message.sent_date.isoformat() if message.sent_date else ""
    head = _head(headers.header_text(message.sender or ""), to, "", date, message.subject)
    children = tuple(_outlook_child(attachment, notes) for attachment in message.attachments)
    return Content(text=head + body, notes=tuple(notes), children=tuple(child for child in children if child))


def _outlook_child(attachment: Attachment, notes: list[str]) -> Child | None:
    name = clean_name(attachment.file_name or "")
    content = attachment.file_bytes
    if content is None:
        notes.append(f"the attached Outlook item {name or 'without a name'} was not read")
        return None
    return Child(name, content, attachment.mime_type or "")
