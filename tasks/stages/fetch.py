"""URLs in an event -> files in the blob store, within what [webhook.NAME.fetch] of its source allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from config.fetching import FetchPolicy
from config.settings import Settings
from tasks.download import Download, download, host_of
from tasks.errors import Permanent, Transient, Unavailable
from tasks.models import Fetched, Job
from tasks.readers import sniff
from tasks.stores import Store

SECONDS = 300.0
"""Time for the files of one event in one attempt; what is left then is fetched in the next one."""


@dataclass(frozen=True)
class Tools:
    """What fetching needs besides the URLs."""

    policy: FetchPolicy
    blobs: Store
    keep: Callable[[Sequence[Fetched]], None]
    """Told after each file what there is by now, so that no file is fetched twice."""
    tell: Callable[[str], None]
    """Told what the stage is at."""


def policy_for(settings: Settings, job: Job) -> FetchPolicy:
    """What the job's source allows; for a source without such a section: files of public hosts."""
    kind, _, name = job.source.partition(":")
    source = settings.webhook.get(name) if kind == "webhook" else None
    return source.fetch if source else FetchPolicy()


def fetch(urls: Sequence[str], known: Mapping[str, Fetched], tools: Tools) -> list[Fetched]:
    """Fetch what is not `known`, in the order of `urls`.

    A file that may not or cannot be had says why in its `reason`. Raises Transient or Unavailable when some may be had
    later, after the others were tried.
    """
    done: dict[str, Fetched] = {}
    later: list[Transient] = []
    end = time.monotonic() + SECONDS
    for number, url in enumerate(urls, start=1):
        tools.tell(f"file {number} of {len(urls)}")
        try:
            done[url] = _one(number, url, known.get(url), sum(one.size for one in done.values()), end, tools)
        except Permanent as error:
            done[url] = Fetched(url=url, status="refused", reason=error.reason)
        except Transient as error:
            later.append(error)
            continue
        tools.keep([*done.values(), *(one for url, one in known.items() if url not in done)])
    if later:
        raise min(later, key=lambda error: isinstance(error, Unavailable))  # an outage alone costs no attempt
    return list(done.values())


def _one(number: int, url: str, known: Fetched | None, before: int, end: float, tools: Tools) -> Fetched:
    """One file, from the blob store when it was fetched already; today's policy is asked either way."""
    policy = tools.policy
    if number > policy.max_files:
        raise Permanent(f"the event names more than {policy.max_files} files")
    host = host_of(url, policy)
    if known and known.status == "refused":
        return known
    room = policy.max_total - before
    if room <= 0:
        raise Permanent(f"the event's files come to more than {policy.max_total} bytes")
    most = min(policy.max_size, room)
    got = _kept(known, tools.blobs)
    if got is None:
        if time.monotonic() > end:
            raise Transient(f"the event's files took longer than {SECONDS:g} s")
        got = download(url, policy, most)
    if len(got.data) > most:
        raise Permanent(f"{host}: it is larger than {most} bytes")
    found = sniff(got.data, "", got.claimed)
    if policy.types and not any(fnmatchcase(found, pattern.lower()) for pattern in policy.types):
        raise Permanent(f"{host}: it is {found}, which is not among the `types` that are taken")
    sha256 = tools.blobs.put(got.data)
    return Fetched(url=url, claimed=got.claimed, content_type=found, sha256=sha256, size=len(got.data))


def _kept(known: Fetched | None, blobs: Store) -> Download | None:
    if known is None:
        return None
    try:
        return Download(blobs.get(known.sha256), known.claimed)
    except Permanent:  # gone or damaged: fetched anew
        return None
