"""The ledger: the only SQL of Postroom. It knows what is left to do, whatever the broker forgets."""

from __future__ import annotations

from tasks.ledger.archive import Archive, Rule
from tasks.ledger.arrivals import Arrival, Arrivals
from tasks.ledger.backlog import Backlog
from tasks.ledger.census import Census
from tasks.ledger.decisions import Decision, Decisions, decided_now
from tasks.ledger.deliveries import Deliveries
from tasks.ledger.digests import Digests
from tasks.ledger.endpoints import Endpoint, Endpoints
from tasks.ledger.engine import Database
from tasks.ledger.figures import Figures
from tasks.ledger.imap_folders import ImapFolders, Watched
from tasks.ledger.imap_messages import ImapMessages
from tasks.ledger.jobs import Jobs, Open
from tasks.ledger.leases import Held, Lease, Leases
from tasks.ledger.listing import Listing
from tasks.ledger.notices import Notice, Notices
from tasks.ledger.outages import Outage, Outages
from tasks.ledger.questions import Questions
from tasks.ledger.readings import Readings
from tasks.ledger.redeliveries import Redeliveries, Redelivery, Wanted, obstacle
from tasks.ledger.rescues import Look, Rescues
from tasks.ledger.rows import DeliveryState, Event
from tasks.ledger.search import Search
from tasks.ledger.tallies import Gauge, Tallies, Tally
from tasks.ledger.together import Together
from tasks.ledger.tokens import Scope, Token, Tokens
from tasks.ledger.traces import Traces
from tasks.ledger.vectors import Near, Vectors
from tasks.ledger.visitors import Visitors

__all__ = [
    "Archive",
    "Arrival",
    "Arrivals",
    "Decision",
    "DeliveryState",
    "Endpoint",
    "Event",
    "Gauge",
    "Held",
    "ImapFolders",
    "ImapMessages",
    "Lease",
    "Ledger",
    "Look",
    "Near",
    "Notice",
    "Open",
    "Outage",
    "Outages",
    "Redelivery",
    "Rule",
    "Scope",
    "Tally",
    "Token",
    "Tokens",
    "Wanted",
    "Watched",
    "decided_now",
    "obstacle",
]


class Ledger:
    """One database, seen from each side."""

    def __init__(self, url: str) -> None:
        self.database = Database(url)
        self.jobs = Jobs(self.database)
        together = Together(self.database)
        self.leases = Leases(self.database, together)
        self.deliveries = Deliveries(self.database, together)
        self.readings = Readings(self.database, together)
        self.redeliveries = Redeliveries(self.database)
        self.endpoints = Endpoints(self.database)
        self.outages = Outages(self.database)
        self.backlog = Backlog(self.database)
        self.census = Census(self.database)
        self.tallies = Tallies(self.database)
        self.traces = Traces(self.database)
        self.digests = Digests(self.database)
        self.rescues = Rescues(self.database)
        self.notices = Notices(self.database)
        self.tokens = Tokens(self.database)
        self.archive = Archive(self.database)
        self.imap_messages = ImapMessages(self.database)
        self.imap_folders = ImapFolders(self.database)
        self.search = Search(self.database)
        self.listing = Listing(self.database, self.search)
        self.figures = Figures(self.database)
        self.decisions = Decisions(self.database)
        self.questions = Questions(self.database)
        self.visitors = Visitors(self.database)
        self.vectors = Vectors(self.database)

    @classmethod
    def open(cls, url: str) -> Ledger:
        """Connect, and make the schema when the database is new.

        Raises Unavailable when it does not answer, Permanent when its schema is another version's.
        """
        ledger = cls(url)
        ledger.database.check_schema()
        return ledger

    def close(self) -> None:
        """Close every connection."""
        self.database.close()
