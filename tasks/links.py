"""Links and addresses in words for people: what is one, which of them may be sent, and how the others are made harmless.

Mail programs and chats turn bare names such as `www.shop.example/pay` into links by themselves, so these count too.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

GONE = "[...]"
"""What stands where a link or an address was taken out."""

_ENDINGS = (
    "com|net|org|info|biz|io|co|dev|app|xyz|top|shop|site|online|club|store|live|cloud|tech|icu|vip|website|space"
    "|ru|cn|de|fr|uk|eu|ch|at|it|es|nl|be|pl|us|me|ly|gg|cc|tk|ai|in|jp|br|au|ca|se|no|dk|fi|pt|ie|cz|ua|tr|hu|ro|gr"
    "|link|click|email|page|pro|gov|edu|int|example|test"
)
LINK = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,15}:/{1,3}|(?:mailto|tel|sms|javascript|data|https?|ftp|sip|skype|callto|bitcoin):|www\.)"
    r"[^\s<>\"']+"
    r"|[\w.+%-]{1,64}@[\w-]+(?:\.[\w-]+)*"
    rf"|(?<![\w.])(?:[^\W_](?:[\w-]{{0,61}}[^\W_])?\.)+(?:{_ENDINGS})(?![\w-])(?::\d+)?(?:[/?#]\S*)?",
    re.IGNORECASE,
)
"""A URL of any scheme, a mail address, or a bare host name under an ending that programs make links of."""
_HOST = re.compile(r"^(?:[a-z][a-z0-9+.-]*:/*)?(?:[^/@\s]*@)?([^/:?#\s]+)", re.IGNORECASE)
_TAIL = ".,;:!?)]}'\""
_DOTS = str.maketrans(dict.fromkeys("\u3002\uff0e\uff61", "."))


@dataclass(frozen=True)
class Allowed:
    """What may stand in words that go out, beside plain text."""

    patterns: frozenset[str] = frozenset()
    """Hosts and mail addresses in lower case, as shell patterns: `*.team.example`, `help@team.example`."""

    @classmethod
    def of(cls, patterns: Iterable[str], addresses: Iterable[str] = ()) -> Allowed:
        """The configured patterns, and addresses that may be named as they are."""
        exact = (re.sub(r"([*?\[])", r"[\1]", address.casefold()) for address in addresses if address)
        return cls(frozenset({*(one.casefold() for one in patterns), *exact}))

    def may(self, link: str) -> bool:
        """Whether this link or address, as LINK finds it, may be sent."""
        bare = _plain(link).casefold().rstrip(_TAIL)
        whole = bare.removeprefix("mailto:")
        if "@" in whole and "/" not in whole:
            names = [whole]
        else:
            found = _HOST.match(bare)
            names = [found[1]] if found and "@" not in bare.partition("?")[0] else []
        return any(fnmatchcase(name, pattern) for name in names for pattern in self.patterns)


NOTHING = Allowed()


def strange(text: str, allowed: Allowed = NOTHING) -> list[str]:
    """The links and addresses in `text` that may not be sent, in order."""
    return [found[0] for found in LINK.finditer(_plain(text)) if not allowed.may(found[0])]


def without(text: str, allowed: Allowed = NOTHING) -> str:
    """`text` with GONE in the place of every link and address that may not be sent; as it was when there is none."""
    plain = _plain(text)
    if not strange(text, allowed):
        return text
    return LINK.sub(lambda found: found[0] if allowed.may(found[0]) else GONE, plain)


def unlinked(text: str) -> str:
    """`text` in which no program finds a link: `http://a.example` as `http[:]//a[.]example`. For people who may see it."""
    return LINK.sub(lambda found: re.sub(r"(?<!\[)([.:@])(?!\])", r"[\1]", found[0]), _plain(text))


def _plain(text: str) -> str:
    """Letters that look or act like others as those others: full-width forms, and the dots that domains may have."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text).translate(_DOTS)
