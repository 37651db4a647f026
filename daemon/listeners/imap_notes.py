"""What is known of one folder while its UIDVALIDITY lasts: the ledger's rows, with a copy in memory kept in step.

One thread watches a folder, so the copy is right as long as it lives; the next process reads the rows again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from daemon.listeners.imap_clock import Clock
from tasks.ledger.imap_messages import FINAL, ImapMessages, Known, Mark, Place, Spot, Taken, Trace

BULK_COUNT = 50
BULK_BYTES = 8_388_608
MOST_TRIES = 6
FIRST_WAIT_MS = 60_000
"""After the first failed try; doubled with each: the last of six comes half an hour after the first."""


class Notes:
    """The messages of a folder as far as they are known. Every method that writes raises Unavailable."""

    def __init__(self, rows: ImapMessages, place: Place, clock: Clock, *, restarted: bool = False) -> None:
        """`restarted`: what is under way according to the rows was so when an earlier process died."""
        self.place = place
        self._rows = rows
        self._clock = clock
        self._known = rows.known(place)
        if restarted:
            for uid, known in self._known.items():
                if known.mark is Mark.FETCHING:
                    known.mark, known.tries = Mark.SUSPECT, known.tries + 1
                    known.reason = known.reason or "fetching it ended the process"
                    rows.failed(place, uid, known)

    def keep(self, present: Iterable[int]) -> None:
        """Forget what is no longer in the folder (its row stays)."""
        there = set(present)
        self._known = {uid: known for uid, known in self._known.items() if uid in there}

    def begun(self, present: Collection[int], but: Collection[int]) -> tuple[dict[int, Spot], dict[int, Mark]]:
        """What an earlier run did not bring to its end: moves that it had begun, with their aim; and what has gone.

        Gone without a word, though nothing was done with it yet, is what a person moved or deleted, or what was to be
        deleted and is, at least by its mark.
        """
        open_ones = {
            uid: one for uid, one in self._known.items() if one.mark in FINAL and not one.settled and uid not in but
        }
        aims = {uid: one.aim for uid, one in open_ones.items() if one.aim.folder}
        return aims, {uid: one.mark for uid, one in open_ones.items() if uid not in aims and uid not in present}

    def traces(self, uids: Sequence[int]) -> dict[int, Trace]:
        """By what these are found where they were moved to. Raises Unavailable."""
        return self._rows.traces(self.place, uids)

    def is_due(self, uid: int) -> bool:
        """Whether a message may be tried now."""
        known = self._known.get(uid)
        if known is None:
            return True
        return known.mark not in FINAL and known.tries < MOST_TRIES and known.due_at <= self._clock.now_ms()

    def given_up(self) -> dict[int, str]:
        """Messages that had their last try, with the reason."""
        return {
            uid: f"{known.reason} ({known.tries} tries)"
            for uid, known in self._known.items()
            if known.mark is Mark.SUSPECT and known.tries >= MOST_TRIES
        }

    def all_through(self) -> bool:
        """Whether no message that is known has anything left to be done with it."""
        return all(known.mark in FINAL and known.settled for known in self._known.values())

    def unsettled(self) -> dict[Mark, list[int]]:
        """Messages that are through, but with which the mailbox has still to be told."""
        found: dict[Mark, list[int]] = {}
        for uid, known in sorted(self._known.items()):
            if known.mark in FINAL and not known.settled:
                found.setdefault(known.mark, []).append(uid)
        return found

    def bulks(self, sizes: Mapping[int, int]) -> Iterator[list[int]]:
        """Bulks of bounded count and bytes; then those that were tried before, each alone."""
        alone = sorted((uid for uid in sizes if uid in self._known), key=lambda uid: self._known[uid].due_at)
        yield from bounded({uid: size for uid, size in sizes.items() if uid not in self._known})
        yield from ([uid] for uid in alone)

    def begin(self, uids: Sequence[int]) -> None:
        """These are about to be fetched: guilty until accepted, so that whatever ends this is tried alone next."""
        self._rows.begin(self.place, uids, self._clock.now_ms())
        for uid in uids:
            self._known.setdefault(uid, Known(Mark.FETCHING)).mark = Mark.FETCHING

    def failed(self, uid: int, reason: str) -> None:
        """A try failed by this message's own fault, as it seems; the wait doubles with each."""
        tries = self._known[uid].tries + 1
        due = self._clock.now_ms() + FIRST_WAIT_MS * 2 ** (tries - 1)
        known = self._known[uid] = Known(Mark.SUSPECT, tries, due, reason=reason[:300])
        self._rows.failed(self.place, uid, known)

    def spare(self, uids: Sequence[int]) -> None:
        """A try failed by nobody's fault, as it seems: tried again alone, after the others, and a restart counts none."""
        now = self._clock.now_ms()
        self._rows.spared(self.place, uids, now)
        for uid in uids:
            known = self._known[uid]
            known.mark, known.due_at = Mark.SUSPECT, now

    def unanswered(self, why: Mapping[int, str]) -> None:
        """The search found these, but the server tells nothing of them: gone meanwhile, or broken."""
        if why:
            self.begin(list(why))
            for uid, reason in why.items():
                self.failed(uid, reason)

    def accepted(self, taken: Sequence[Taken], *, follows: bool) -> None:
        """These are jobs now."""
        self._rows.accepted(self.place, taken, follows=follows, now=self._clock.now_ms())
        self._known |= {one.uid: Known(Mark.ACCEPTED) for one in taken}

    def pass_over(self, why: Mapping[int, str], mark: Mark) -> None:
        """These are through without a job: filtered, too large, in quarantine, or our own canary."""
        self._rows.passed_over(self.place, why, mark, self._clock.now_ms())
        self._known |= {uid: Known(mark, settled=mark is Mark.FILTERED, reason=reason) for uid, reason in why.items()}

    def aimed(self, uids: Sequence[int], aim: Spot) -> None:
        """These are about to be moved to where `aim` says."""
        self._rows.aimed(self.place, uids, aim)
        for uid in uids:
            self._known[uid].aim = aim

    def settled(self, spots: Mapping[int, Spot]) -> None:
        """The mailbox was told, and this is where they are now."""
        self._rows.settled(self.place, spots)
        for uid in spots:
            self._known[uid].settled = True


def bounded(sizes: Mapping[int, int]) -> Iterator[list[int]]:
    """Messages in bulks of at most BULK_COUNT and, unless one alone is larger, BULK_BYTES."""
    bulk: list[int] = []
    total = 0
    for uid, size in sizes.items():
        if bulk and (len(bulk) >= BULK_COUNT or total + size > BULK_BYTES):
            yield bulk
            bulk, total = [], 0
        bulk.append(uid)
        total += size
    if bulk:
        yield bulk
