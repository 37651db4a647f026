"""A mail's body taken apart: what is new in it, the signature, and the earlier messages that it quotes.

Goes line by line and looks at each line a fixed number of times, so that no input can make it slow: of two libraries tried
on a public set of 47 replies, the better one takes over 5 s for 50 KB of empty lines. Nothing is thrown away here: the
store keeps the whole text, and what is cut or moved concerns only what the model is shown (tasks/prompts.py).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST_LINE = 400
"""Characters of a line that are looked at, and of an attribution over several lines."""
SIGNATURE_LINES = 15
"""Lines that a signature has at most; what is longer after `-- ` is no signature."""

_VERBS = (
    "wrote|writes|schrieb|geschrieben|a écrit|écrit|escribió|ha scritto|scrisse|schreef|skrev|kirjoitti|napisał|napisała|"
    r"napisał\(a\)|escreveu|napsal|napsala|написал|пише"
)
_ATTRIBUTION_END = re.compile(r"[:：]\s*$")
_VERB = re.compile(rf"\b(?:{_VERBS})(?!\w)", re.IGNORECASE)
_ADDRESS = re.compile(r"<[^<>@\s]{1,100}@[^<>@\s]{1,200}>\s*[:：]\s*$")
_CLOCK = re.compile(r"\d{1,2}[:.]\d\d(?!\d)|@")
_TIME = re.compile(r"\d{1,2}[:.]\d\d(?!\d)|\b(?:19|20)\d\d\b|[年月]")
_QUOTED = re.compile(r"\s{0,3}>")
_ORIGINAL = re.compile(
    r"[-_*\s]{2,40}(?:original message|reply message|ursprüngliche nachricht|message d'origine|message original|"
    r"mensaje original|messaggio originale|oorspronkelijk bericht|originalmeddelande|ursprungligt meddelande|"
    r"oprindelig meddelelse|oprindelig besked|opprinnelig melding|wiadomość oryginalna|mensagem original)[-_*\s]{2,40}",
    re.IGNORECASE,
)
_FORWARDED = re.compile(
    r"[-_*\s]{0,40}(?:(?:begin )?forwarded message|weitergeleitete nachricht|message transféré|mensaje reenviado|"
    r"messaggio inoltrato|doorgestuurd bericht|vidarebefordrat meddelande|videresendt meddelelse|"
    r"przekazana wiadomość|anfang der weitergeleiteten nachricht)[-_*:\s]{0,40}",
    re.IGNORECASE,
)
_FROM = re.compile(r"[*\s]{0,4}(?:from|von|de|da|van|från|fra|od|差出人)\s?:[*\s]{0,4}\S", re.IGNORECASE)
_OTHER_FIELD = re.compile(
    r"[*\s]{0,4}(?:sent|date|to|cc|reply-to|gesendet|datum|an|kopie|envoyé|à|enviado|fecha|para|inviato|data|"
    r"verzonden|aan|skickat|till|sendt|dato|til|wysłano|do|kopia|dw)\s?:",
    re.IGNORECASE,
)
_SUBJECT = re.compile(
    r"[*\s]{0,4}(?:subject|betreff|objet|asunto|assunto|oggetto|onderwerp|ämne|emne|temat|件名)\s?:", re.IGNORECASE
)
_RULE = re.compile(r"\s*[-_=]{5,}\s*")
_DELIMITER = re.compile(r"--\s?$")
_DEVICE = re.compile(
    r"(?:sent from (?:my|mail for|yahoo|outlook|proton)\b[^,.!?]{0,60}|get outlook for .{0,60}|"
    r"von meinem \w.{0,40} gesendet|gesendet (?:mit|von) .{0,60}|envoyé de mon .{0,60}|enviado desde mi .{0,60}|"
    r"inviato da .{0,60}|verstuurd vanaf .{0,60}|skickat från min .{0,60}|sendt fra min .{0,60}|wysłane z .{0,60})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Body:
    """A mail's body in three pieces, each a part of the text as it was."""

    new: str
    signature: str
    history: str

    def for_model(self) -> str:
        """What the model is shown: the new part, then what it answers; the signature not at all."""
        if not self.history.strip():
            return self.new
        return f"{self.new}\n\n[earlier messages, quoted below the new one]\n{self.history}"


def take_apart(text: str) -> Body:
    """Tell new from quoted text, and cut the signature off. A text that is all history or all signature is all new."""
    lines = text.splitlines()
    marks = _history(lines)
    new = [line for line, quoted in zip(lines, marks, strict=True) if not quoted]
    history = [line for line, quoted in zip(lines, marks, strict=True) if quoted]
    if not any(line.strip() for line in new):
        new, history = lines, []
    end = _signature(new)
    if not any(line.strip() for line in new[:end]):
        end = len(new)
    return Body("\n".join(new[:end]).strip(), "\n".join(new[end:]).strip(), "\n".join(history).strip())


def _history(lines: Sequence[str]) -> list[bool]:
    """Which lines are quoted. What was forwarded is no history: it is what the mail is about."""
    marks = [False] * len(lines)
    number = 0
    while number < len(lines):
        line = lines[number][:LONGEST_LINE]
        if wrapped := _wrapped(lines, number, marks):
            marks[number : number + wrapped] = [True] * wrapped
            number += wrapped
            continue
        if _FORWARDED.fullmatch(line):
            break
        if _QUOTED.match(line):
            marks[number] = True
            number += 1
        elif _attribution_length(lines, number):
            number = _after_attribution(lines, number, marks)
        elif _is_head(lines, number) and any(text.strip() for text in lines[:number]):
            marks[number:] = [True] * (len(lines) - number)
            if number and _RULE.fullmatch(lines[number - 1][:LONGEST_LINE]):
                marks[number - 1] = True
            break
        else:
            number += 1
    return marks


def _after_attribution(lines: Sequence[str], start: int, marks: list[bool]) -> int:
    """Mark an attribution and what it introduces: the quoted lines after it, or all that follows when none are quoted."""
    begin = start + _attribution_length(lines, start)
    first = next((n for n in range(begin, min(begin + 4, len(lines))) if lines[n].strip()), None)
    if first is not None and _QUOTED.match(lines[first]):
        marks[start:first] = [True] * (first - start)
        return first
    if not _CLOCK.search(" ".join(lines[start:begin])[:LONGEST_LINE]):
        return begin  # somebody tells who wrote what; a mail program would have put the time or the address
    marks[start:] = [True] * (len(lines) - start)
    return len(lines)


def _wrapped(lines: Sequence[str], number: int, marks: Sequence[bool]) -> int:
    """How many lines (up to two) are the broken end of a quoted line: no empty line parts them from quotes on both sides."""
    if not number or not marks[number - 1] or not lines[number - 1].strip(" >"):
        return 0
    for count in (1, 2):
        after = lines[number + count : number + count + 1]
        if not lines[number + count - 1 : number + count] or not lines[number + count - 1].strip():
            return 0
        if after and _QUOTED.match(after[0]):
            return count if not any(map(_QUOTED.match, lines[number : number + count])) else 0
    return 0


def _attribution_length(lines: Sequence[str], number: int) -> int:
    """How many lines (up to three) make an attribution such as `On ... X wrote:`; 0 when these do not.

    It has its time in the first line, and a line above a whole attribution is none of it.
    """
    found = _ends(lines, number)
    if found > 1 and _ends(lines, number + 1) == found - 1:
        return 0
    return found


def _ends(lines: Sequence[str], number: int) -> int:
    if number >= len(lines) or not _TIME.search(lines[number][:LONGEST_LINE]):
        return 0
    joined = ""
    for count, line in enumerate(lines[number : number + 3], 1):
        stripped = line[:LONGEST_LINE].strip()
        if not stripped or (count > 1 and _QUOTED.match(line)):
            return 0
        joined = f"{joined} {stripped}"[: LONGEST_LINE + 1]
        if len(joined) > LONGEST_LINE:
            return 0
        if _ATTRIBUTION_END.search(joined):
            return count if _VERB.search(joined) or _ADDRESS.search(joined) else 0
    return 0


def _is_head(lines: Sequence[str], number: int) -> bool:
    """`-----Original Message-----`, or From:, a subject and another header line within six lines."""
    line = lines[number][:LONGEST_LINE]
    if _ORIGINAL.fullmatch(line):
        return True
    if not _FROM.match(line):
        return False
    following = [other[:LONGEST_LINE] for other in lines[number + 1 : number + 7]]
    return any(map(_SUBJECT.match, following)) and any(map(_OTHER_FIELD.match, following))


def _signature(lines: Sequence[str]) -> int:
    """The line at which the signature begins: `-- ` (RFC 3676 section 4.3), a device's line, a mailing list's footer."""
    end = len(lines)
    for number in range(len(lines) - 1, max(-1, len(lines) - SIGNATURE_LINES - 1), -1):
        line = lines[number][:LONGEST_LINE].strip()
        last_words = not any(text.strip() for text in lines[number + 1 : end])
        if _DELIMITER.fullmatch(line) or (last_words and _DEVICE.fullmatch(line)) or _is_list_footer(lines, number):
            end = number
    return end


def _is_list_footer(lines: Sequence[str], number: int) -> bool:
    """A line of underscores, then `... mailing list`."""
    following = lines[number + 1 : number + 2]
    return bool(_RULE.fullmatch(lines[number][:LONGEST_LINE]) and following and "mailing list" in following[0].lower())
