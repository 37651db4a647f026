"""The figures of a run: what was right, what was wrong, how well the confidence knows it, and what it cost."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from daemon.evaluation.cases import Case
from daemon.evaluation.outcome import Outcome, Value
from tasks.judging.calibration import Seen, above, accuracy_at, ece

COVERAGES = (0.6, 0.7, 0.8, 0.9)
_EDGES = " \t\n.,;:'\"()"
_NUMBER = re.compile(r"-?\d+(\.\d+)?")


def same(value: str, wanted: Iterable[str]) -> bool:
    """Whether a value is one of those wanted: upper and lower case, spaces and outer punctuation aside; 300 is 300.00."""
    folded = _fold(value)
    return any(folded == _fold(one) or _equal_numbers(folded, _fold(one)) for one in wanted)


def _fold(text: str) -> str:
    return " ".join(text.split()).strip(_EDGES).casefold()


def _equal_numbers(one: str, other: str) -> bool:
    if "." not in one + other or not (_NUMBER.fullmatch(one) and _NUMBER.fullmatch(other)):
        return False  # 0756 and 756 are two invoices
    return Decimal(one) == Decimal(other)


@dataclass
class Counts:
    """Of one field, or of many: values that are right, wrong, not stated at all, and missing."""

    right: int = 0
    wrong: int = 0
    """Another value than the document's."""
    unstated: int = 0
    """A value for what the document does not state."""
    wanted: int = 0

    @property
    def precision(self) -> float:
        """Share of the values read that are right; 1 when none were read."""
        read = self.right + self.wrong + self.unstated
        return self.right / read if read else 1.0

    @property
    def recall(self) -> float:
        """Share of the values wanted that were read right; 1 when none were wanted."""
        return self.right / self.wanted if self.wanted else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0

    def add(self, other: Counts) -> None:
        """Count the other's as well."""
        self.right, self.wrong = self.right + other.right, self.wrong + other.wrong
        self.unstated, self.wanted = self.unstated + other.unstated, self.wanted + other.wanted


@dataclass
class Figures:
    """Of one model in one way, over some cases."""

    cases: int = 0
    errors: int = 0
    labels_right: int = 0
    by_label: dict[str, tuple[int, int]] = field(default_factory=dict)
    """(right, all) of each right label."""
    by_language: dict[str, tuple[int, int]] = field(default_factory=dict)
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(right label, told label); told is empty for an error."""
    fields: dict[str, Counts] = field(default_factory=dict)
    """Of cases whose label is right: with another label, other values were asked for."""
    of_text: Counts = field(default_factory=Counts)
    """The same over documents that need no OCR."""
    of_all: Counts = field(default_factory=Counts)
    """The same over all."""
    end_to_end: Counts = field(default_factory=Counts)
    """Over all cases: what a wrong label kept from being read is missing."""
    unsupported: int = 0
    """Values that the model wrote and that do not stand in the text: never sent, they are only counted."""
    sent: int = 0
    """Values that would have gone out without anybody looking."""
    sent_wrong: int = 0
    """Of them: not what the document states for that field."""
    sent_invented: int = 0
    """Of the wrong ones: standing nowhere in the text."""
    reviewed: int = 0
    seen: list[Seen] = field(default_factory=list)
    """Each answer's confidence, and whether its label is right."""
    seconds_reading: float = 0.0
    seconds_judging: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0

    @property
    def accuracy(self) -> float:
        """Share of labels that are right; a case without an answer is not."""
        return self.labels_right / self.cases if self.cases else 0.0

    @property
    def ece(self) -> float:
        """Expected calibration error of the label's confidence, in ten bins."""
        return ece(self.seen)

    def accuracy_at(self, coverage: float) -> float:
        """Share of right labels among the surest answers."""
        return accuracy_at(self.seen, coverage)

    def above(self, threshold: float) -> tuple[float, float]:
        """(coverage, accuracy) of the answers told with `threshold` or more."""
        return above(self.seen, threshold)

    def sure_coverage(self, wanted: float) -> float:
        """The greatest share of the surest answers of which at least `wanted` (0 to 1) are right."""
        shares = (number / len(self.seen) for number in range(len(self.seen), 0, -1))
        return next((share for share in shares if accuracy_at(self.seen, share) >= wanted), 0.0)


def figures(cases: Mapping[str, Case], outcomes: Sequence[Outcome]) -> Figures:
    """Count. Outcomes of cases that are not among `cases` are left out."""
    total = Figures()
    for outcome in outcomes:
        if case := cases.get(outcome.case):
            _count(total, case, outcome)
    return total


def _count(total: Figures, case: Case, outcome: Outcome) -> None:
    right = outcome.label == case.label
    total.cases += 1
    total.errors += bool(outcome.error)
    total.labels_right += right
    total.reviewed += bool(outcome.review)
    total.confusion[case.label, outcome.label] += 1
    _bump(total.by_label, case.label, right)
    _bump(total.by_language, case.language or "-", right)
    if not outcome.error:
        total.seen.append((outcome.confidence, right))
    total.unsupported += sum(not one.supported for one in outcome.values)
    total.sent += len(outcome.sent)
    wrong = [one for one in outcome.sent if not right_value(case, one)]
    total.sent_wrong += len(wrong)
    total.sent_invented += sum(not one.supported for one in wrong)
    total.seconds_reading += outcome.seconds_reading
    total.seconds_judging += outcome.seconds_judging
    total.prompt_tokens += outcome.prompt_tokens
    total.output_tokens += outcome.output_tokens
    _count_fields(total, case, outcome)


def _bump(table: dict[str, tuple[int, int]], name: str, right: bool) -> None:
    known, of = table.get(name, (0, 0))
    table[name] = known + right, of + 1


def _count_fields(total: Figures, case: Case, outcome: Outcome) -> None:
    right = outcome.label == case.label
    counted = counts_of(case, outcome) if right else {name: Counts(wanted=1) for name in case.fields}
    for name, counts in counted.items():
        total.end_to_end.add(counts)
        if right:
            total.fields.setdefault(f"{case.label}.{name}", Counts()).add(counts)
            total.of_all.add(counts)
            if case.is_text:
                total.of_text.add(counts)


def counts_of(case: Case, outcome: Outcome) -> dict[str, Counts]:
    """Each field of a case whose label is right. What `may` be read counts only when it is wrong."""
    told = {one.name: one for one in outcome.values if one.supported or outcome.way == "plain"}
    found = {}
    for name in dict.fromkeys([*case.fields, *told]):
        counts = Counts(wanted=int(name in case.fields))
        if one := told.get(name):
            stated = name in case.fields or name in case.may
            is_right = right_value(case, one)
            counts.right = int(is_right and name in case.fields)
            counts.wrong = int(not is_right and stated)
            counts.unstated = int(not stated)
        found[name] = counts
    return found


def right_value(case: Case, one: Value) -> bool:
    """Whether the document states this value for that field."""
    return same(one.value, [*case.fields.get(one.name, ()), *case.may.get(one.name, ())])
