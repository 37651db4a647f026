"""Compares what came of the inputs with their expected.toml; every comparison is one line, true or false."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from email.utils import getaddresses, parseaddr

from daemon.demo.inputs import Expected, Mail
from daemon.demo.sinks import HookSink, MailSink, Posted, Sent
from daemon.demo.watch import Followed


@dataclass(frozen=True)
class Check:
    """One expectation and what was seen instead, if it did not come true."""

    input: str
    what: str
    true: bool
    seen: str = ""


def replies_to(one: Followed, outbox: MailSink) -> list[Sent]:
    """Mails in the outbox that answer this input; only a mail can be answered by one."""
    delivery = one.sending.input.delivery
    if not isinstance(delivery, Mail):
        return []
    return [mail for mail in outbox.mails if mail.in_reply_to == delivery.message_id]


def posts_of(one: Followed, hooks: HookSink) -> list[Posted]:
    """Webhooks about this input's job, each counted once however often it was posted."""
    job_id = str(one.job.get("id", ""))
    found = {hook.id: hook for hook in hooks.hooks if job_id and job_id in json.dumps(hook.body)}
    return list(found.values())


def checks(followed: Sequence[Followed], outbox: MailSink, hooks: HookSink) -> list[Check]:
    """Every expectation of every input, then those about the sinks as a whole."""
    by_name = {one.name: one for one in followed}
    found: list[Check] = []
    for one in followed:
        expected = one.sending.input.expected
        if not one.job:
            found.append(Check(one.name, "becomes a job", False, "no job for it is listed"))
        elif expected.duplicate_of:
            found.append(_shares_job(one, by_name[expected.duplicate_of]))
        else:
            found += [
                *_job(one, expected),
                *_fields(one, expected),
                *_documents(one, expected),
                *_answer(one, expected, replies_to(one, outbox)),
                *_counts(one, expected, len(replies_to(one, outbox)), len(posts_of(one, hooks))),
            ]
    return [*found, *_sinks(followed, outbox, hooks)]


def _same(one: Followed, what: str, expected: object, seen: object) -> Check:
    return Check(one.name, f"{what} {expected}", expected == seen, "" if expected == seen else f"{seen}")


def _shares_job(one: Followed, first: Followed) -> Check:
    same = one.job["id"] == first.job.get("id")
    return Check(one.name, f"sent again: the job of {first.name}", same, "" if same else f"job {one.job['id']}")


def _job(one: Followed, expected: Expected) -> Iterator[Check]:
    ended = one.state == expected.state
    yield Check(one.name, f"ends {expected.state}", ended, "" if ended else f"{one.state} {one.job.get('reason', '')}")
    if expected.label:
        seen = (one.job.get("classification") or {}).get("label") or "no label"
        yield _same(one, "label", expected.label, seen)


def _fields(one: Followed, expected: Expected) -> Iterator[Check]:
    fields = {field["name"]: field for field in (one.job.get("classification") or {}).get("fields", [])}
    for name, value in expected.fields.items():
        field = fields.get(name)
        if field is None:
            yield Check(one.name, f"{name} {value}", False, "no such field")
        elif not field["supported"]:
            yield Check(one.name, f"{name} {value}", False, f"{field['value']}, without evidence")
        else:
            yield _same(one, name, value, field["value"])


def _documents(one: Followed, expected: Expected) -> Iterator[Check]:
    seen = {document["name"]: document for document in one.job.get("documents") or []}
    wanted = dict.fromkeys(expected.read, "read") | dict.fromkeys(expected.unreadable, "unreadable")
    for name, status in wanted.items():
        document = seen.get(name, {"status": "no such document", "reason": f"there are {', '.join(seen) or 'none'}"})
        ok = document["status"] == status and (status == "read" or bool(document["reason"]))
        yield Check(one.name, f"{name}: {status}", ok, "" if ok else f"{document['status']}: {document['reason']}")


def _answer(one: Followed, expected: Expected, replies: Sequence[Sent]) -> Iterator[Check]:
    why_not = str((one.job.get("reply") or {}).get("not_sent_because", ""))
    if expected.answered is not None:
        what = "is answered" if expected.answered else "is not answered"
        ok = bool(replies) == expected.answered
        seen = f"{len(replies)} replies" if replies else f"no reply: {why_not or 'no reason told'}"
        yield Check(one.name, what, ok, "" if ok else seen)
    if expected.because:
        ok = expected.because.lower() in why_not.lower()
        yield Check(one.name, f"because of {expected.because}", ok, "" if ok else why_not or "no reason told")
    text = " ".join(map(text_of, replies))
    for words in (*expected.says, *(expected.unreadable if expected.answered else ())):
        yield Check(one.name, f"reply says {words}", words in text, "" if words in text else "it does not")
    delivery = one.sending.input.delivery
    if isinstance(delivery, Mail):
        for reply in replies:
            yield from _manners(one, delivery, reply)


def _manners(one: Followed, mail: Mail, reply: Sent) -> Iterator[Check]:
    sender = parseaddr(mail.headers.get("Reply-To") or mail.from_)[1]
    ok = reply.recipients == (sender,) and [to for _, to in getaddresses([str(reply.message["To"])])] == [sender]
    yield Check(one.name, "answers the sender alone", ok, "" if ok else ", ".join(reply.recipients))
    auto = str(reply.message["Auto-Submitted"] or "missing")
    yield Check(one.name, "marked auto-replied", auto == "auto-replied", "" if auto == "auto-replied" else auto)


def _counts(one: Followed, expected: Expected, mails: int, posts: int) -> Iterator[Check]:
    if expected.mails is not None:
        yield _same(one, "mails sent:", expected.mails, mails)
    if expected.webhooks is not None:
        yield _same(one, "webhooks posted:", expected.webhooks, posts)


def _sinks(followed: Sequence[Followed], outbox: MailSink, hooks: HookSink) -> Iterator[Check]:
    ours = {id(mail) for one in followed for mail in replies_to(one, outbox)}
    strays = [mail.path.name for mail in outbox.mails if id(mail) not in ours]
    yield Check("outbox", "every mail answers an input", not strays, ", ".join(strays))
    forged = [hook.path.name for hook in hooks.hooks if not hook.verified]
    yield Check("webhook sink", "every signature is right", not forged, ", ".join(forged))


def text_of(mail: Sent) -> str:
    """The plain text part of a mail."""
    part = mail.message.get_body(("plain",))
    return str(part.get_content()) if part else ""
