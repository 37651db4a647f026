"""iCalendar and vCard: both are content lines (RFC 5545 section 3.1, RFC 6350 section 3.3)."""

from __future__ import annotations

import quopri
import re

from tasks.readers.charset import decode
from tasks.readers.content import Content, Source

TYPES = ("text/calendar", "text/vcard", "text/x-vcard", "text/x-vcalendar", "text/directory")

_LABELS = {
    "SUMMARY": "Summary", "DTSTART": "Start", "DTEND": "End", "DUE": "Due", "DURATION": "Duration",
    "LOCATION": "Location", "DESCRIPTION": "Description", "ORGANIZER": "Organizer", "ATTENDEE": "Attendee",
    "STATUS": "Status", "RRULE": "Repeats", "METHOD": "Method", "UID": "Id", "URL": "Address on the web",
    "COMMENT": "Comment", "CATEGORIES": "Categories", "FN": "Name", "ORG": "Organisation", "TITLE": "Title",
    "ROLE": "Role", "EMAIL": "E-mail", "TEL": "Telephone", "ADR": "Address", "NOTE": "Note", "BDAY": "Born",
}  # fmt: skip
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)(?:T(\d\d)(\d\d)(\d\d)(Z?))?$")
_LINE = re.compile(r'(?:[\w-]+\.)?([\w-]+)((?:;[\w-]+(?:=(?:"[^"]*"|[^;:"]*))?)*):(.*)$', re.DOTALL)
_SHOWN_COMPONENTS = {"VEVENT": "Event", "VTODO": "Task", "VJOURNAL": "Journal", "VFREEBUSY": "Free and busy"}
_SKIPPED_COMPONENTS = frozenset({"VTIMEZONE", "VALARM"})


def read(source: Source) -> Content:
    """Each component's properties as `Label: value` lines; dates in ISO 8601; time zones and alarms left out."""
    text, note = decode(source.data, source.charset or "utf-8")
    lines: list[str] = []
    skipping = 0
    for line in re.sub(r"\r?\n[ \t]", "", text).splitlines():
        found = _LINE.match(line)
        if not found:
            continue
        name, parameters, value = found[1].upper(), found[2], found[3]
        component = value.strip().upper()
        if name in ("BEGIN", "END") and component in _SKIPPED_COMPONENTS:
            skipping += 1 if name == "BEGIN" else -1
        elif name == "BEGIN" and component in _SHOWN_COMPONENTS:
            lines.append(f"\n{_SHOWN_COMPONENTS[component]}:")
        elif not skipping and name in _LABELS and value.strip():
            lines.append(f"{_LABELS[name]}: {_value(value, parameters)}")
    return Content(text="\n".join(lines), notes=(note,) if note else ())


def _value(value: str, parameters: str) -> str:
    date = _DATE.match(value.strip())
    if date:
        year, month, day, hour, minute, second, utc = date.groups()
        stamp = f"{year}-{month}-{day}" + (f"T{hour}:{minute}:{second}{utc}" if hour else "")
        zone = re.search(r';TZID="?([^;:"]+)', parameters, re.I)
        return f"{stamp} ({zone[1]})" if zone else stamp
    if "ENCODING=QUOTED-PRINTABLE" in parameters.upper():
        value = quopri.decodestring(value.encode("utf-8")).decode("utf-8", "replace")
    value = re.sub(r"\\([nN,;\\])", lambda found: "\n" if found[1] in "nN" else found[1], value)
    name = re.search(r';CN="?([^;:"]+)', parameters, re.I)
    value = value.removeprefix("mailto:").removeprefix("MAILTO:")
    parts = " ".join(part for part in value.split(";") if part)
    return f"{name[1]} <{parts}>" if name else parts
