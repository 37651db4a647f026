"""Raw bytes by SHA-256 in an S3-compatible bucket, shared by all hosts: written whole, checked by the server when they
arrive and by us when they are read.

S3 has neither locks nor a way to remove only what nobody has stored again since. So what the sweep takes is first laid
aside under `gone/` and removed a sweep's grace later; whoever asks for it before that gets it, and puts it back. An
accept, or a backup, that crosses a sweep loses nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from config.storage import BlobSettings
from tasks.errors import Permanent, Unavailable
from tasks.guard import guard

try:
    import obstore
    from obstore.exceptions import BaseError
    from obstore.store import S3Store
except ModuleNotFoundError as error:
    raise Permanent("[blobs] url needs a package that is not installed: pip install 'postroom[s3]'") from error

TRIES = timedelta(seconds=10)
"""For so long one call is tried again; then its caller hears of it and waits in its own way."""
_GONE = "gone"
_PROBE = "probe"


class Objects:
    """A content-addressed bucket: `ab/cdef...` under the prefix. Threads may share one."""

    def __init__(self, settings: BlobSettings) -> None:
        self.url = settings.url
        bucket, prefix = settings.bucket()
        keys = {"access_key_id": settings.access_key, "secret_access_key": settings.secret_key.get_secret_value()}
        where = {"endpoint": settings.endpoint, "prefix": prefix}
        options: dict[str, Any] = {name: value for name, value in {**keys, **where}.items() if value}
        self._store = S3Store(
            bucket,
            region=settings.region,
            virtual_hosted_style_request=settings.virtual_host,
            checksum_algorithm="SHA256",
            client_options={
                "allow_http": settings.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=settings.connect_timeout),
                "timeout": timedelta(seconds=settings.timeout),
            },
            retry_config={"max_retries": 2, "retry_timeout": TRIES},
            **options,
        )

    def path(self, sha256: str) -> str:
        """Where the bytes with this digest stand (or would)."""
        return f"{self.url}/{_key(sha256)}"

    def put(self, data: bytes) -> str:
        """Store `data`, whatever stands there: so it counts as new. Raises Unavailable."""
        digest = hashlib.sha256(data).hexdigest()
        with self._told(f"store {len(data)} bytes"):
            obstore.put(self._store, _key(digest), data, use_multipart=False)
        return digest

    def get(self, sha256: str) -> bytes:
        """The stored bytes, checked. Raises Permanent when they are gone or damaged, Unavailable when the store is away."""
        with self._told("read a message"):
            data = self._read(_key(sha256))
            laid_aside = self._read(_key(sha256, _GONE)) if data is None else None
            if data is None and laid_aside is None:
                next(
                    iter(obstore.list(self._store)), None
                )  # a bucket that is not there: "not found" too, but an outage
        if laid_aside is not None:
            with contextlib.suppress(Unavailable):  # a later sweep leaves it alone as long as a job refers to it
                self.put(laid_aside)
            data = laid_aside
        if data is None:
            raise Permanent(f"the raw message is missing from the blob store ({self.path(sha256)})")
        if hashlib.sha256(data).hexdigest() != sha256:
            where = self.path(sha256)
            raise Permanent(
                f"the raw message is damaged: {where} ({len(data)} bytes) does not have the SHA-256 in its name"
            )
        return data

    def check(self) -> str:
        """Store and remove a few bytes; where. Raises Unavailable."""
        with self._told("store a few bytes"):
            obstore.put(self._store, _PROBE, b"postroom", use_multipart=False)
            obstore.delete(self._store, _PROBE)
        return self.url

    def old(self, folder: int, before: float) -> list[tuple[str, int]]:
        """Digest and size of what was last stored, or laid aside, before a time (seconds)."""
        found: dict[str, int] = {}
        with self._told("list"):
            for place in ("", f"{_GONE}/"):
                for one in self._listed(f"{place}{folder:02x}"):
                    digest = one["path"].removeprefix(place).replace("/", "")
                    if len(digest) == 64 and one["last_modified"].timestamp() < before:
                        found[digest] = one["size"]
        return sorted(found.items())

    def remove(self, sha256: str, before: float) -> bool:
        """Lay one aside that nobody refers to; remove it when it has lain there since before `before` (seconds)."""
        key, aside = _key(sha256), _key(sha256, _GONE)
        with self._told("remove what no job needs"):
            stored, laid = self._age(key), self._age(aside)
            if stored is not None:
                if stored < before:
                    obstore.copy(self._store, key, aside)
                    obstore.delete(self._store, key)
                return False
            if laid is None or laid >= before:
                return False
            obstore.delete(self._store, aside)
            return True

    def remove_parts(self, folder: int, before: float) -> None:
        """Remove what was laid aside and has been put back since."""
        with self._told("remove what no job needs"):
            for one in self._listed(f"{_GONE}/{folder:02x}"):
                is_old = one["last_modified"].timestamp() < before
                if is_old and self._age(one["path"].removeprefix(f"{_GONE}/")) is not None:
                    obstore.delete(self._store, one["path"])

    @contextlib.contextmanager
    def kept_for_backup(self) -> Iterator[None]:
        """What is swept away meanwhile can be read for a day."""
        yield

    @contextlib.contextmanager
    def sweeping(self) -> Iterator[bool]:
        """Always: it takes nothing away at once."""
        yield True

    def _read(self, key: str) -> bytes | None:
        try:
            return bytes(obstore.get(self._store, key).bytes())
        except FileNotFoundError:
            return None

    def _age(self, key: str) -> float | None:
        """When it was stored (seconds since the epoch); None when it is not there."""
        try:
            return obstore.head(self._store, key)["last_modified"].timestamp()
        except FileNotFoundError:
            return None

    def _listed(self, prefix: str) -> Iterator[Any]:
        return (one for page in obstore.list(self._store, prefix=prefix) for one in page)

    @contextlib.contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Errors of the store as an outage of it, behind a breaker."""
        name = f"blobs:{self.url}"
        with guard(name).call():
            try:
                yield
            except (BaseError, OSError, ValueError) as error:
                raise Unavailable(name, f"{self.url} cannot {doing}: {_words(error)}") from error


def _key(sha256: str, place: str = "") -> str:
    return "/".join(part for part in (place, sha256[:2], sha256[2:]) if part)


def _words(error: Exception) -> str:
    """What went wrong, without the request and its tries: `Server returned non-2xx status code: 403 Forbidden`."""
    told = str(error).split("Debug source")[0].split("<?xml")[0]
    return " ".join(told.rpartition(" - ")[2].split()).rstrip(": ")[:300]
