"""The ledger: the only SQL of Postroom. It knows what is left to do, whatever the broker forgets."""

from __future__ import annotations

from tasks.ledger.archive import Archive, Rule
from tasks.ledger.arrivals import Arrival, Arrivals
from tasks.ledger.backlog import Backlog
from tasks.ledger.decisions import Decision, Decisions, decided_now
from tasks.ledger.deliveries import Deliveries
from tasks.ledger.endpoints import Endpoint, Endpoints
from tasks.ledger.engine import Database
from tasks.ledger.imap_folders import ImapFolders, Watched
from tasks.ledger.imap_messages import ImapMessages
from tasks.ledger.jobs import Jobs, Open
from tasks.ledger.leases import Held, Lease, Leases
from tasks.ledger.listing import Listing
from tasks.ledger.notices import Notice, Notices
from tasks.ledger.redeliveries import Redeliveries, Redelivery, Wanted, obstacle
from tasks.ledger.rows import DeliveryState, Event
from tasks.ledger.search import Search
from tasks.ledger.tally import Tally
from tasks.ledger.tokens import Scope, Token, Tokens
from tasks.ledger.visitors import Visitors

__all__ = [
    "Archive",
    "Arrival",
    "Arrivals",
    "Decision",
    "DeliveryState",
    "Endpoint",
    "Event",
    "Held",
    "ImapFolders",
    "ImapMessages",
    "Lease",
    "Ledger",
    "Notice",
    "Open",
    "Redelivery",
    "Rule",
    "Scope",
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
        self.leases = Leases(self.database)
        self.deliveries = Deliveries(self.database)
        self.redeliveries = Redeliveries(self.database)
        self.endpoints = Endpoints(self.database)
        self.backlog = Backlog(self.database)
        self.notices = Notices(self.database)
        self.tokens = Tokens(self.database)
        self.archive = Archive(self.database)
        self.imap_messages = ImapMessages(self.database)
        self.imap_folders = ImapFolders(self.database)
        self.search = Search(self.database)
        self.listing = Listing(self.database, self.search)
        self.tally = Tally(self.database)
        self.decisions = Decisions(self.database)
        self.visitors = Visitors(self.database)

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
