"""What one child does: waits for its file, takes its limits, reads, sends the result, and is gone without clean-up."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.errors import Unreadable
from tasks.invisible import cleaned
from tasks.readers import mail, ocr, picture, registry, signed
from tasks.readers.content import Content, Source
from tasks.readers.language import language_of
from tasks.readers.limits import Limits
from tasks.readers.sandbox import wire
from tasks.readers.sniffing import OCTETS, sniff

_LIBC = ctypes.CDLL(None, use_errno=True)
_CPU_GRACE = 5
"""Seconds from the signal that names the limit (SIGXCPU) to the one that does not (SIGKILL)."""
LARGEST_ORDER = 64 * 1024
"""Bytes of the message that gives a child its limits and its channel."""
_LARGEST_REQUEST = 1 << 30
_WITHOUT_TEXT = {
    "application/pkcs7-mime": "an S/MIME signature or an S/MIME-encrypted message, which is not opened here",
    "application/vnd.rar": "a RAR archive, which is not unpacked here; ZIP or TAR would be",
    "application/x-7z-compressed": "a 7z archive, which is not unpacked here; ZIP or TAR would be",
    "application/zstd": "a zstd archive, which is not unpacked here; ZIP or TAR would be",
}
_UNREADABLE = {"status": "unreadable", "locked": False, "lasting": True}
_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_BLANKS = re.compile(r"\n{4,}")
_TRAILING = re.compile(r"(?<![ \t])[ \t]++(?=\n|\f|$)")

Answer = tuple[dict[str, Any], list[bytes]]


def run(orders: socket.socket, home: Path) -> None:
    """Serve one request and end the process; never returns. Ends at once when there will be none."""
    status = 1
    with contextlib.suppress(BaseException):
        confine(home)
        order, descriptors, _, _ = socket.recv_fds(orders, LARGEST_ORDER, 1)
        orders.close()
        channel = socket.socket(fileno=descriptors[0])
        limits = Limits(**json.loads(order))
        bind(limits)
        request, blobs = wire.receive(channel, most=_LARGEST_REQUEST)
        header, out = answer(request, blobs[0], limits)
        wire.send(channel, {**header, "used": _used()}, out)
        status = 0
    # No destructors and no exit handlers: some libraries crash in theirs.
    os._exit(status)


def confine(home: Path) -> None:
    """Bind this process to a folder of its own and to the life of its parent; it may gain no rights."""
    os.setsid()
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nowhere, descriptor)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    os.environ.update(HOME=str(home), TMPDIR=str(home), XDG_CACHE_HOME=str(home))
    os.chdir(home)


def bind(limits: Limits) -> None:
    """Bind this process to its limits; their clocks start now."""
    hard_cpu = limits.cpu_seconds + limits.ocr_seconds + _CPU_GRACE
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.cpu_seconds, hard_cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.file_bytes, limits.file_bytes))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits.open_files, limits.open_files))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.processes, limits.processes))
    signal.setitimer(signal.ITIMER_REAL, limits.wall_seconds)


def _used() -> dict[str, float]:
    """Memory and processor time so far, of this process and of the programs that it ran."""
    own, programs = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "peak_kib": max(own.ru_maxrss, programs.ru_maxrss),
        "cpu_seconds": own.ru_utime + own.ru_stime + programs.ru_utime + programs.ru_stime,
    }


def warm_up() -> None:
    """Run the commonest paths once on words of our own, so that no child has to compile what all of them need."""
    ocr.warm_up()
    blank = {"op": "read", "name": "", "claimed": "", "charset": "", "passwords": []}
    guessed = "Ein Satz, dessen Zeichensatz zu raten ist: Grüße aus Köln, schöne Tage, größer und kürzer.".encode(
        "cp1252"
    )
    samples = (("text/plain", b"warm"), ("text/plain", guessed), ("text/html", b"<table><tr><td>a<td>b</table>"))
    for content_type, sample in samples:
        answer({**blank, "as": content_type}, sample, Limits())
    answer({"op": "mail"}, b"From: A <a@example.org>\nSubject: =?utf-8?q?warm?=\n\nwarm\n", Limits())


def answer(request: dict[str, Any], data: bytes, limits: Limits) -> Answer:
    """The result of one request.

    `mail`: structure only; `dkim`: whose signatures hold; `picture`: one page as PNG; `read`: text of one file.
    """
    try:
        if request["op"] == "mail":
            return _mail(data)
        if request["op"] == "dkim":
            return {"status": "read", "good": signed.good(data, request["signatures"], request["keys"])}, []
        if request["op"] == "picture":
            return {"status": "read"}, [picture.picture(data, request["as"], request["page"], request["quotes"])]
        return _read(request, data, limits)
    except Unreadable as error:
        return {**_UNREADABLE, "reason": error.reason, "locked": error.locked, "lasting": error.lasting}, []
    except MemoryError:
        reason = f"needs more than {limits.memory_bytes >> 20} MiB of memory"
        return {**_UNREADABLE, "reason": reason, "lasting": False}, []
    except RecursionError:
        return {**_UNREADABLE, "reason": "nested too deep"}, []


def _mail(data: bytes) -> Answer:
    parsed = mail.parse(data)
    header = parsed.model_dump(mode="python", exclude={"parts": {"__all__": {"data"}}})
    return {"status": "read", "mail": header}, [part.data for part in parsed.parts]


def _read(request: dict[str, Any], data: bytes, limits: Limits) -> Answer:
    claimed = str(request["claimed"])
    content_type = request["as"] or sniff(data, request["name"], claimed)
    reader = registry.reader_for(content_type)
    if reader is None:
        return {"status": "skipped", "type": content_type, "reason": _no_reader(content_type, claimed)}, []
    source = Source(
        data=data,
        name=request["name"],
        content_type=content_type,
        claimed=claimed,
        charset=request["charset"],
        passwords=tuple(request["passwords"]),
        limits=limits,
        more_time=_more_time(limits),
    )
    try:
        content = reader(source)
    except (Unreadable, MemoryError, RecursionError):
        raise
    except Exception as error:  # a library may raise anything on damaged bytes; the class is told
        raise Unreadable(
            f"damaged or not really {content_type} ({type(error).__name__}: {str(error)[:200]})"
        ) from error
    return _header(content_type, content, limits), [child.data for child in content.children]


def _header(content_type: str, content: Content, limits: Limits) -> dict[str, Any]:
    seen, unseen = cleaned(content.text)
    text = tidy(seen)
    notes = [*content.notes, *unseen]
    if len(text) > limits.text_chars:
        notes.append(f"only the first {limits.text_chars} of {len(text)} characters were kept")
        text = text[: limits.text_chars]
    if not text and not notes:
        notes.append("it holds no text")
    return {
        "status": "read",
        "type": content.content_type or content_type,
        "reason": "; ".join(notes),
        "text": text,
        "pages": content.pages,
        "language": language_of(text),
        "locked": content.locked,
        "lasting": not content.hurried,
        "children": [[child.name, child.content_type, child.charset, child.locked] for child in content.children],
    }


def tidy(text: str) -> str:
    """Line ends as `\\n`, no control characters but tab and form feed, no trailing blanks, at most two empty lines."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x0b", "\n").replace("\xa0", " ")
    text = _UNPRINTABLE.sub("", text)
    return _BLANKS.sub("\n\n\n", _TRAILING.sub("", text)).strip("\n ")


def _no_reader(content_type: str, claimed: str) -> str:
    claim = claimed.partition(";")[0].strip().lower()
    if content_type in _WITHOUT_TEXT:
        return _WITHOUT_TEXT[content_type]
    if content_type != OCTETS:
        return f"there is no text to read in {content_type}"
    if claim in ("", OCTETS):
        return "unknown binary data"
    return f"claimed to be {claim[:80]}, but the bytes are not"


def _more_time(limits: Limits) -> Callable[[], None]:
    called: list[bool] = []

    def lift() -> None:
        if not called:
            called.append(True)
            seconds = limits.cpu_seconds + limits.ocr_seconds
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + _CPU_GRACE))
            remaining, _ = signal.getitimer(signal.ITIMER_REAL)
            signal.setitimer(signal.ITIMER_REAL, remaining + limits.ocr_seconds)

    return lift
