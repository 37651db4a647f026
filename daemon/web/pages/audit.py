"""The audit log: who logged in, and who changed what."""

from __future__ import annotations

from starlette.responses import Response

from daemon.web.pages.ask import Ask
from daemon.web.pages.site import Site
from tasks.ledger import Ledger

LIMIT = 100


def install(site: Site, ledger: Ledger) -> None:
    """The route."""

    def listed(ask: Ask) -> Response:
        before = ask.query("before", 15)
        deeds = ledger.visitors.deeds(int(before) if before.isdecimal() else None, LIMIT + 1)
        following = deeds[LIMIT - 1][0] if len(deeds) > LIMIT else None
        return site.frame.page(ask, "audit", deeds=[deed for _, deed in deeds[:LIMIT]], following=following)

    site.get("/audit", listed, "admin")
