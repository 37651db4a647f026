"""A run's figures in words, and what changed since another run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from daemon.evaluation.cases import Case
from daemon.evaluation.figures import COVERAGES, Counts, Figures, counts_of, right_value
from daemon.evaluation.outcome import Outcome


@dataclass(frozen=True)
class Line:
    """One figure."""

    name: str
    value: str
    number: float
    """For comparing."""
    is_share: bool = True


def lines(told: Figures, threshold: float) -> list[Line]:
    """What is printed first: each figure with its name."""
    coverage, sure = told.above(threshold)
    of = max(told.cases, 1)
    return [
        Line("labels right", f"{told.accuracy:.3f}  ({told.labels_right} of {told.cases})", told.accuracy),
        *(
            Line(f"of the surest {share:.0%}", f"{told.accuracy_at(share):.3f}", told.accuracy_at(share))
            for share in COVERAGES
        ),
        Line(f"told with {threshold:g} or more", f"{sure:.3f} right of {coverage:.0%}", sure),
        Line("0.97 right up to coverage", f"{told.sure_coverage(0.97):.2f}", told.sure_coverage(0.97)),
        Line("calibration error (ECE)", f"{told.ece:.3f}", told.ece),
        _of_fields("fields of text documents, F1", told.of_text),
        _of_fields("fields of all documents, F1", told.of_all),
        Line("fields, wrong labels counted", f"{told.end_to_end.f1:.3f}", told.end_to_end.f1),
        Line("values not found in the text", f"{told.unsupported}", told.unsupported, False),
        Line("values sent unseen", f"{told.sent}", told.sent, False),
        Line("  of them wrong", f"{told.sent_wrong}", told.sent_wrong, False),
        Line("  of them invented", f"{told.sent_invented}", told.sent_invented, False),
        Line("documents for a person", f"{told.reviewed / of:.3f}  ({told.reviewed})", told.reviewed / of),
        Line("without any answer", f"{told.errors}", told.errors, False),
        Line("seconds a document, reading", f"{told.seconds_reading / of:.1f}", told.seconds_reading / of, False),
        Line("seconds a document, judging", f"{told.seconds_judging / of:.1f}", told.seconds_judging / of, False),
        Line(
            "tokens a document",
            f"{told.prompt_tokens / of:.0f} read, {told.output_tokens / of:.0f} written",
            (told.prompt_tokens + told.output_tokens) / of,
            False,
        ),
    ]


def _of_fields(name: str, of: Counts) -> Line:
    if not of.wanted:
        return Line(name, "(no value was to be read)", 0.0)
    words = f"{of.f1:.3f}  (precision {of.precision:.3f}, recall {of.recall:.3f}, {of.right} of {of.wanted})"
    return Line(name, words, of.f1)


def difference(now: Line, before: Line) -> str:
    """How a figure moved: `+0.031`; empty when it did not."""
    moved = now.number - before.number
    if abs(moved) < 0.0005:
        return ""
    return f"{moved:+.3f}" if now.is_share else f"{moved:+.1f}".removesuffix(".0")


@dataclass(frozen=True)
class Changed:
    """One case whose label is right now and was wrong, or the other way round."""

    case: str
    better: bool
    before: str
    now: str


def changes(cases: Mapping[str, Case], now: Sequence[Outcome], before: Sequence[Outcome]) -> list[Changed]:
    """Cases that both runs have and that differ in being right."""
    known = {one.case: one.label for one in before}
    found = []
    for one in now:
        case = cases.get(one.case)
        if case and one.case in known and (one.label == case.label) != (known[one.case] == case.label):
            found.append(Changed(one.case, one.label == case.label, known[one.case], one.label))
    return sorted(found, key=lambda one: (one.better, one.case))


@dataclass(frozen=True)
class Miss:
    """One thing that is wrong."""

    case: str
    what: str
    told: str
    wanted: str
    confidence: float
    seen: bool
    """Whether a person would have looked before it went out."""


def misses(cases: Mapping[str, Case], outcomes: Sequence[Outcome]) -> Iterator[Miss]:
    """Every wrong label; of right ones every wrong, missing and unstated value."""
    for one in outcomes:
        case = cases.get(one.case)
        if case is None:
            continue
        held = bool(one.review or one.error)
        if one.label != case.label:
            yield Miss(one.case, "label", one.label or one.error or "(none)", case.label, one.confidence, held)
            continue
        told = {value.name: value for value in one.values if value.supported or one.way == "plain"}
        for name in counts_of(case, one):
            wanted = " | ".join([*case.fields.get(name, ()), *case.may.get(name, ())])
            if name not in told:
                yield Miss(one.case, name, "(missing)", wanted, one.confidence, True)
            elif not right_value(case, told[name]):
                yield Miss(one.case, name, told[name].value, wanted or "(not stated)", one.confidence, held)


def progress(number: int, total: int, case: Case, one: Outcome, *, hidden: bool) -> str:
    """The line that is printed when a case is done. `hidden`: without telling what is right."""
    seconds = f"{one.seconds_reading + one.seconds_judging:.0f} s"
    way = " (plain)" if one.way == "plain" else ""
    if hidden:
        return f"[{number}/{total}] {one.case}{way}: {one.error or 'answered'}, {seconds}"
    right = "ok   " if one.label == case.label else "error" if one.error else "WRONG"
    fields = counts_of(case, one) if one.label == case.label else {}
    read = f", {sum(counts.right for counts in fields.values())} of {len(case.fields)} values" if case.fields else ""
    wanted = "" if one.label == case.label else f", is {case.label}"
    told = one.error or f"{one.label} {one.confidence:.2f}{wanted}{read if fields else ''}"
    held = "; for a person" if one.review else ""
    return f"[{number}/{total}] {right} {one.case}{way}: {told}{held}, {seconds}"
