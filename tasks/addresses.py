"""Mail addresses as people use them: one address may have many details (RFC 5233)."""

from __future__ import annotations

DETAIL = "+"
"""What separates the mailbox from the detail, as Postfix, Exim, Gmail and Microsoft 365 have it."""


def plain(address: str) -> str:
    """The address without its detail, lower case: `Inbox+invoices@x.test` is `inbox@x.test`."""
    local, at, domain = address.lower().rpartition("@")
    return f"{local.partition(DETAIL)[0] or local}{at}{domain}"
