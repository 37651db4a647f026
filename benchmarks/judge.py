"""Measures judging on labelled cases: `python benchmarks/judge.py --host URL` tells labels, fields and seconds.

Cases are in benchmarks/judge_cases: `tuning.toml` was looked at while prompts were written, `unseen.toml` was not.
"""

from __future__ import annotations

import argparse
import hashlib
import time
import tomllib
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import structlog

from config.engine import ModelSettings
from config.routes import Route, load_routes
from config.settings import SHIPPED, TEMPLATES
from tasks.model import Judge
from tasks.models import Classification, Document, MailFacts

CASES = Path(__file__).with_name("judge_cases")


@dataclass
class Tally:
    """What the run came to."""

    cases: int = 0
    labels: int = 0
    wanted: int = 0
    right: int = 0
    invented: int = 0
    review: int = 0
    seconds: list[float] = field(default_factory=list)

    @staticmethod
    def say(line: str) -> None:
        """Print at once: a run takes minutes."""
        print(line, flush=True)


def load(name: str) -> list[dict[str, Any]]:
    """The cases of one file."""
    return list(tomllib.loads((CASES / f"{name}.toml").read_text("utf-8"))["case"])


def documents_of(case: dict[str, Any]) -> list[Document]:
    """The case's documents as the extract stage would give them."""
    return [
        Document(
            ordinal=number,
            name=item["name"],
            content_type="application/json" if item["name"] == "event" else "text/plain",
            size=len(item["text"]),
            sha256=hashlib.sha256(item["text"].encode()).hexdigest(),
            text=item["text"].strip(),
            language=item.get("language", ""),
        )
        for number, item in enumerate(case["documents"], 1)
    ]


def mail_of(case: dict[str, Any]) -> MailFacts | None:
    """The head of the case's mail; None for an event."""
    if "subject" not in case:
        return None
    name, _, address = case["sender"].rpartition("<")
    return MailFacts(subject=case["subject"], from_name=name.strip(), from_address=address.rstrip(">"))


def route_of(case: dict[str, Any], routes: tuple[Route, ...]) -> Route:
    """The route that the case's way in leads to."""
    source = case.get("source", "smtp")
    is_code = '"full_name"' in case["documents"][0]["text"]
    return next(
        route for route in routes if fnmatch(source, route.match.source or "*") and (not route.match.event or is_code)
    )


def run(judge: Judge, cases: list[dict[str, Any]], *, reply: bool) -> Tally:
    """Judge every case and compare with what it says."""
    routes = load_routes(SHIPPED / "routes", TEMPLATES, frozenset())
    tally = Tally()
    for case in cases:
        documents, mail, route = documents_of(case), mail_of(case), route_of(case, routes)
        started = time.perf_counter()
        found = judge.classify(documents, mail, route)
        judged = time.perf_counter() - started
        text = judge.free_text(documents, mail, found, route).text if reply and route.template_for(found.label) else ""
        tally.seconds.append(time.perf_counter() - started)
        _count(tally, case, found)
        tally.say(f"    {judged:.1f} s, {found.prompt_tokens}+{found.output_tokens} tokens; {found.summary}")
        if text:
            tally.say(f"    reply: {text}")
    return tally


def _count(tally: Tally, case: dict[str, Any], found: Classification) -> None:
    tally.cases += 1
    right = found.label in {case["label"], *case.get("also", [])}
    tally.labels += right
    tally.review += bool(found.review)
    tally.say(
        f"{'ok   ' if right else 'WRONG'} {case['name']}: {found.label} {found.confidence:.3f} {_second(found)} {found.review}"
    )
    for note in found.notes:
        tally.say(f"    note: {note}")
    values = found.values()
    if found.label != case["label"]:
        return
    for name, value in case["fields"].items():
        tally.wanted += 1
        tally.right += values.get(name) == value
        if values.get(name) != value:
            tally.say(f"    WRONG {name}: {values.get(name)!r}, wanted {value!r}")
    for name in values.keys() - case["fields"].keys():
        tally.invented += 1
        tally.say(f"    more: {name} = {values[name]!r}")


def _second(found: Classification) -> str:
    others = {name: share for name, share in found.alternatives.items() if name != found.label}
    name = max(others, key=lambda label: others[label], default="")
    return f"({name} {others[name]:.3f})" if name else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="", help="Ollama's address")
    parser.add_argument("--model", default=ModelSettings().name)
    parser.add_argument("--set", default="tuning", choices=["tuning", "unseen"])
    parser.add_argument("--only", default="", help="part of a case's name")
    parser.add_argument("--no-reply", action="store_true", help="leave the reply's text out")
    given = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(20))
    judge = Judge(ModelSettings(host=given.host, name=given.model))
    cases = [case for case in load(given.set) if given.only in case["name"]]
    tally = run(judge, cases, reply=not given.no_reply)
    print(
        f"{given.set}: labels {tally.labels}/{tally.cases}, fields {tally.right}/{tally.wanted}, "
        f"other supported fields {tally.invented}, review {tally.review}, "
        f"{sum(tally.seconds):.0f} s in all, {sum(tally.seconds) / max(1, tally.cases):.1f} s a case"
    )


if __name__ == "__main__":
    main()
