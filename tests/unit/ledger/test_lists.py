"""Lists, search, counts, decisions and sessions, on both databases."""

from __future__ import annotations

import pytest

from tasks.clock import now_ms
from tasks.intake import Intake
from tasks.ledger import Ledger, Rule, decided_now
from tasks.ledger.listing import Wanted
from tasks.models import Classification, Document, Field, Kind, Stage, State
from tests.conftest import envelope


def judged(
    intake: Intake, key: str, text: str, *, label: str = "invoice", value: str = "RE-7", state: str = "done"
) -> str:
    """A job that was read and judged, in `state`."""
    ledger = intake.ledger
    job_id = intake.accept(envelope(key, sender=f"{key}@sender.example"), b"x").job_id
    claimed = ledger.leases.claim(job_id, Stage.EXTRACT, State.EXTRACTING, "tester")
    assert claimed
    read = Document(ordinal=0, name=f"{key}.pdf", content_type="text/plain", size=1, sha256="0" * 64, text=text)
    row = {
        "stage": "classify",
        "state": "classifying",
        "subject": f"Subject {key}",
        "message_id": f"<{key}@sender.example>",
    }
    ledger.leases.finish(claimed[1], value={"mail": None}, job=row, event="extract done", detail={}, texts=[read])
    claimed = ledger.leases.claim(job_id, Stage.CLASSIFY, State.CLASSIFYING, "tester")
    assert claimed
    found = Classification(label=label, confidence=0.8, fields=(Field(name="number", value=value, supported=True),))
    row = {"stage": "reply", "state": state, "label": label, "confidence": 0.8}
    ledger.leases.finish(claimed[1], value=found.model_dump(), job=row, event="classify done", detail={})
    return job_id


def ids(ledger: Ledger, **wanted: object) -> list[str]:
    return [job.id for job in ledger.listing.page(Wanted(**wanted)).jobs]  # type: ignore[arg-type]


FOUND = (
    "zahlung",
    "ZÄHLUNG",
    "RE-2026-0113",
    "re-2026-01",
    "ada@sender.example",
    "subject ada",
    "ada.pdf",
    "kunde 4711",
)
SYNTAX = ("'", '"', 'a" OR *', "NEAR(", "%%", "\\", ":*", "& | !", "a' & 'b", "\x00 ada", "-a", "^x", "{a} : b")


def test_a_job_is_found_by_words_wherever_they_stand(intake: Intake, ledger: Ledger) -> None:
    """Sender, subject, file name, text and field values; whatever the case, and the last word by its beginning.

    What a search engine's own syntax would be is taken for punctuation.
    """
    wanted = judged(intake, "ada", "Zählung und Zahlung an Kunde 4711", value="RE-2026-0113")
    judged(intake, "bob", "Lieferschein 4712", value="LS-1")
    assert {words: ids(ledger, words=words) for words in FOUND} == {words: [wanted] for words in FOUND}
    for words in SYNTAX:
        ledger.listing.page(Wanted(words=words))


def test_words_that_stand_together_have_to_stand_together(intake: Intake, ledger: Ledger) -> None:
    """INV-2026 is not found in 2026 INV, and all words are asked for."""
    judged(intake, "ada", "2026 INV")
    assert ids(ledger, words="INV-2026") == []
    assert ids(ledger, words="inv missing") == []
    assert len(ids(ledger, words="inv 2026")) == 1


def test_a_beginning_finds_all_that_begin_so(intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Newest first, in the last word of what stands together too, page by page, however many words there are."""
    made = [judged(intake, f"k{number}", f"crate{number} INV-2026{number}") for number in range(5)]
    other = judged(intake, "k9", "crown", state="review")
    for most in (50, 3):  # words by name, and more words than are named
        monkeypatch.setattr("tasks.ledger.search.MOST_ENDINGS", most)
        assert ids(ledger, words="crat") == made[::-1]
        assert ids(ledger, words="inv-2026") == made[::-1]
        assert ids(ledger, words="k3 crat") == [made[3]]
        assert ids(ledger, words="cr", states=(State.REVIEW,)) == [other]
        assert ids(ledger, words="cratez") == []
        first = ledger.listing.page(Wanted(words="crat"), limit=2)
        following = ledger.listing.page(Wanted(words="crat"), first.following, limit=2)
        assert [job.id for job in (*first.jobs, *following.jobs)] == made[:0:-1]


def test_a_page_of_a_filtered_search_goes_on_where_it_ended(
    intake: Intake, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more jobs have the words than one page looks at, it says so, and the next one looks further back."""
    monkeypatch.setattr("tasks.ledger.listing.FOUND", 3)
    old = judged(intake, "a", "crate", state="review")
    for number in range(3):
        judged(intake, f"k{number}", "crate")
    wanted = Wanted(words="crate", states=(State.REVIEW,))
    page = ledger.listing.page(wanted)
    assert (page.jobs, page.looked_at) == ((), 3)
    again = ledger.listing.page(wanted, page.following)
    assert ([job.id for job in again.jobs], again.following, again.looked_at) == ([old], None, 0)


def test_a_removed_job_is_no_longer_found(intake: Intake, ledger: Ledger) -> None:
    """Retention takes the words along."""
    job_id = judged(intake, "ada", "vertraulich")
    later = now_ms() + 1000
    assert ledger.archive.remove(Rule(State.DONE, later, later, later), 10) == 1
    assert ledger.search.matching("vertraulich", None, 10) == []
    with ledger.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM search_words").scalar() == 0
    assert ledger.jobs.get(job_id) is None


def test_what_was_there_before_the_index_is_found_after_a_backfill(intake: Intake, ledger: Ledger) -> None:
    """Jobs of an earlier version are indexed bit by bit; what is still to be read is left."""
    wanted = judged(intake, "ada", "altbestand")
    intake.accept(envelope("unread"), b"x")
    with ledger.database.write() as connection:
        connection.exec_driver_sql("DELETE FROM search_docs")
    assert ids(ledger, words="altbestand") == []
    place, done = ledger.search.backfill("", 1)
    assert (bool(place), done) == (True, 0)
    assert ledger.search.backfill(place, 10) == ("", 1)
    assert ids(ledger, words="altbestand") == [wanted]


def test_pages_walk_over_every_job_once(intake: Intake, ledger: Ledger) -> None:
    """Newest first, whichever way the list is made."""
    made = [judged(intake, f"k{n}", "gleich", state="review" if n % 2 else "done") for n in range(7)]
    for wanted in (
        Wanted(),
        Wanted(states=(State.DONE, State.REVIEW)),
        Wanted(source="smtp"),
        Wanted(words="gleich"),
        Wanted(words="gleich", label="invoice"),
    ):
        seen: list[str] = []
        place, pages = None, 0
        while pages == 0 or place:
            page = ledger.listing.page(wanted, place, 3)
            seen += [job.id for job in page.jobs]
            place, pages = page.following, pages + 1
            assert pages < 9
        assert seen == made[::-1], wanted


def test_filters_are_joined_by_and(intake: Intake, ledger: Ledger) -> None:
    """Each narrows the list, with and without words."""
    wanted = judged(intake, "a", "gleich", label="invoice", state="review")
    judged(intake, "b", "gleich", label="invoice")
    judged(intake, "c", "gleich", label="order", state="review")
    asked = {"states": (State.REVIEW,), "label": "invoice"}
    assert (
        ids(ledger, **asked) == ids(ledger, **asked, words="gleich") == ids(ledger, **asked, source="smtp") == [wanted]
    )
    assert ids(ledger, **asked, until=1) == ids(ledger, words="gleich", route="none") == []


def test_a_decision_is_made_once(intake: Intake, ledger: Ledger) -> None:
    """The second reviewer changes nothing and leaves no trace; the first one's corrections are on record."""
    job_id = judged(intake, "ada", "text", state="review")
    seen = ledger.jobs.get(job_id)
    assert seen
    changed = Classification(label="order", confidence=1.0, fields=(Field(name="number", value="9", supported=True),))
    facts = {
        "label_before": "invoice",
        "label": "order",
        "fields_before": {"number": "RE-7"},
        "fields": {"number": "9"},
    }
    first = decided_now(job_id, "anna", "approved", reply_text="Danke.", **facts)
    assert ledger.decisions.approve(first, changed, seen.lease_token)
    assert not ledger.decisions.approve(decided_now(job_id, "ben", "approved", **facts), changed, seen.lease_token)
    assert not ledger.decisions.reject(decided_now(job_id, "ben", "rejected", **facts), seen.lease_token)
    job = ledger.jobs.get(job_id)
    assert job
    assert (job.state, job.stage, job.label) == (State.REPLYING, Stage.REPLY, "order")
    assert [one.who for one in ledger.decisions.all()] == ["anna"]
    assert ledger.decisions.of(job_id)[0].corrects
    assert ledger.decisions.reply_text(job_id) == "Danke."
    assert ids(ledger, words="9") == [job_id]
    assert ledger.jobs.retry(job_id, Stage.CLASSIFY, why="again")
    assert ledger.decisions.reply_text(job_id) == ""


def test_a_rejected_job_ends_with_the_reason(intake: Intake, ledger: Ledger) -> None:
    """Nothing is sent for it any more."""
    job_id = judged(intake, "ada", "text", state="review")
    seen = ledger.jobs.get(job_id)
    assert seen
    facts: dict[str, dict[str, str]] = {"fields_before": {}, "fields": {}}
    assert ledger.decisions.reject(decided_now(job_id, "anna", "rejected", reason="spam", **facts), seen.lease_token)
    job = ledger.jobs.get(job_id)
    assert job
    assert (job.state, job.stage, job.reason) == (State.CANCELLED, None, "spam")


def test_a_job_is_decided_that_the_model_could_not_judge(intake: Intake, ledger: Ledger) -> None:
    """There is no judgement to change, so the reviewer's is the first one."""
    job_id = intake.accept(envelope("e", kind=Kind.FILE), b"x").job_id
    with ledger.database.write() as connection:
        connection.exec_driver_sql("UPDATE jobs SET state = 'review', stage = 'classify'")
    facts: dict[str, dict[str, str]] = {"fields_before": {}, "fields": {}}
    decision = decided_now(job_id, "anna", "approved", label="order", **facts)
    assert ledger.decisions.approve(decision, Classification(label="order", confidence=1.0), 0)
    assert (ledger.jobs.result(job_id, Stage.CLASSIFY) or {})["label"] == "order"


def test_numbers_are_told_by_time_and_label(intake: Intake, ledger: Ledger) -> None:
    """Today's page counts what came since then, and nothing older."""
    since = now_ms() - 1000
    judged(intake, "a", "x")
    judged(intake, "b", "x", label="order", state="review")
    assert ledger.figures.arrivals(since, 3_600_000) == {0: 2}
    assert ledger.figures.labels(since) == {"invoice": 1, "order": 1}
    assert ledger.figures.states(since) == {"done": 1, "review": 1}
    assert len(ledger.figures.ended(since)) == 1
    assert ledger.figures.arrivals(now_ms() + 1000, 1000) == {}


def test_a_session_lasts_until_it_ends(ledger: Ledger) -> None:
    """By time-out or by logging out; what ran out is removed."""
    now = now_ms()
    ledger.visitors.open_session("a" * 64, "anna", "s", now + 60_000)
    ledger.visitors.open_session("b" * 64, "ben", "s", now - 1)
    found = ledger.visitors.session("a" * 64)
    assert found
    assert found.who == "anna"
    assert ledger.visitors.session("b" * 64) is None
    ledger.visitors.close_session("a" * 64)
    assert ledger.visitors.session("a" * 64) is None


def test_the_audit_log_tells_who_did_what(ledger: Ledger) -> None:
    """Newest first, page by page; failed log-ins are counted by name and by address."""
    for number in range(3):
        ledger.visitors.note("anna", "192.0.2.1", "login failed", number=number)
    ledger.visitors.note("ben", "192.0.2.1", "login failed")
    assert ledger.visitors.failed_logins(0, "anna", "192.0.2.1") == (3, 4)
    newest = ledger.visitors.deeds(limit=2)
    assert [deed.who for _, deed in newest] == ["ben", "anna"]
    assert [deed.detail for _, deed in ledger.visitors.deeds(before=newest[-1][0])] == [{"number": 1}, {"number": 0}]
