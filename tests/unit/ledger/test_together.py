"""Work of several threads in one transaction: each gets its own answer, and one that fails takes no other with it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa

from tasks.errors import LeaseLost, Unavailable
from tasks.ledger import Ledger
from tasks.ledger.schema import endpoints
from tasks.ledger.together import Together

pytestmark = pytest.mark.sqlite_only


def add(connection: sa.Connection, name: str) -> str:
    connection.execute(sa.insert(endpoints).values(name=name, last_failure="", disabled_because=""))
    return name


def names(ledger: Ledger) -> set[str]:
    return {endpoint.name for endpoint in ledger.endpoints.all()}


class Crowd:
    """Holds the first transaction until all the others wait, so that they come together."""

    def __init__(self, ledger: Ledger) -> None:
        self.together = Together(ledger.database)
        self.commits = 0
        sa.event.listen(ledger.database.engine, "commit", self._count)

    def _count(self, _connection: object) -> None:
        self.commits += 1

    def run(self, *works: object) -> list[object]:
        begun, go = threading.Event(), threading.Event()

        def hold(_connection: sa.Connection) -> None:
            begun.set()
            assert go.wait(30)

        def outcome(work: object) -> object:
            try:
                return self.together.run(work)  # type: ignore[arg-type]
            except Exception as error:
                return error

        with ThreadPoolExecutor(len(works) + 1) as pool:
            first = pool.submit(outcome, hold)
            assert begun.wait(30)
            waiting = []
            for number, work in enumerate(works, 1):  # one after the other, so that their order is known
                waiting.append(pool.submit(outcome, work))
                while len(self.together._waiting) < number:
                    threading.Event().wait(0.002)
            go.set()
            first.result(30)
            return [one.result(30) for one in waiting]


def test_what_waits_is_committed_at_once(ledger: Ledger) -> None:
    """Eight that wait for one commit share the next."""
    crowd = Crowd(ledger)
    assert crowd.run(*(lambda c, n=n: add(c, f"n{n}") for n in range(8))) == [f"n{n}" for n in range(8)]
    assert crowd.commits == 2
    assert names(ledger) == {f"n{n}" for n in range(8)}


def test_one_that_fails_fails_alone(ledger: Ledger) -> None:
    """What it wrote before is undone; the others are committed."""

    def broken(connection: sa.Connection) -> None:
        add(connection, "half")
        raise ValueError("no")

    told = Crowd(ledger).run(lambda c: add(c, "one"), broken, lambda c: add(c, "two"))
    assert (told[0], str(told[1]), told[2]) == ("one", "no", "two")
    assert names(ledger) == {"one", "two"}


def test_a_lost_lease_costs_the_others_nothing(ledger: Ledger) -> None:
    """It is told to its holder, and the transaction goes on."""

    def late(_connection: sa.Connection) -> None:
        raise LeaseLost("somebody else has it")

    crowd = Crowd(ledger)
    told = crowd.run(lambda c: add(c, "one"), late, lambda c: add(c, "two"))
    assert isinstance(told[1], LeaseLost)
    assert (crowd.commits, names(ledger)) == (2, {"one", "two"})


def test_a_ledger_that_does_not_answer_is_told_to_all(ledger: Ledger) -> None:
    """Nobody hears that something is written which is not; the next one finds the ledger well."""

    def full(_connection: sa.Connection) -> None:
        raise sa.exc.OperationalError("INSERT", {}, Exception("database or disk is full"))

    crowd = Crowd(ledger)
    told = crowd.run(lambda c: add(c, "one"), full)
    assert [type(error) for error in told] == [Unavailable, Unavailable]
    assert names(ledger) == set()
    assert crowd.run(lambda c: add(c, "later")) == ["later"]
