"""HTTP to a server of models with a key: one connection for each call under way, events read line by line, bounded."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import httpcore

from config.engine import ModelSettings
from config.models import ModelServer
from tasks import egress
from tasks.exchange import AGENT, wire_url

MOST_LINE = 4 << 20
"""Bytes of one event."""
MOST_BODY = 64 << 20
"""Bytes of an answer that is no stream: vectors of a batch are the largest."""
MOST_WORDS = 16_384
"""Bytes that are read of a refusal."""


class Response:
    """An answer while it comes in."""

    def __init__(self, response: httpcore.Response) -> None:
        self._response = response
        self.status = response.status
        self.headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}

    def events(self) -> Iterator[dict[str, Any]]:
        """Each event's JSON, up to `[DONE]`; the whole answer as one where it is no stream. Raises ValueError or TypeError."""
        if "text/event-stream" not in self.headers.get("content-type", ""):
            yield self.whole()
            return
        for line in self._lines():
            name, _, value = line.partition(b":")
            if name != b"data" or not value.strip():
                continue
            if value.strip() == b"[DONE]":
                return
            event = json.loads(value)
            if not isinstance(event, dict):
                raise TypeError("an event is no object")
            yield event

    def _lines(self) -> Iterator[bytes]:
        rest = bytearray()
        for part in self._response.iter_stream():
            rest += part
            *lines, last = rest.split(b"\n")
            rest = bytearray(last)
            yield from map(bytes, lines)
            if len(rest) > MOST_LINE:
                raise ValueError("an event is too long")
        yield bytes(rest)

    def whole(self) -> dict[str, Any]:
        """The answer's JSON. Raises ValueError or TypeError."""
        told = json.loads(self._body(MOST_BODY))
        if not isinstance(told, dict):
            raise TypeError("the answer is no object")
        return told

    def words(self) -> str:
        """What a refusal says, on one line."""
        text = self._body(MOST_WORDS).decode("utf-8", "replace")
        with contextlib.suppress(ValueError, AttributeError):
            told = json.loads(text)
            error = told.get("error", told)
            text = str(error.get("message", text)) if isinstance(error, dict) else str(error)
        return " ".join(text.split())[:300]

    def _body(self, most: int) -> bytes:
        body = bytearray()
        for part in self._response.iter_stream():
            body += part
            if len(body) > most:
                break
        return bytes(body[:most])


class Http:
    """Requests to one base URL. Threads may share it."""

    def __init__(self, url: str, config: ModelServer, settings: ModelSettings) -> None:
        self._url = url
        self._config = config
        self._settings = settings
        self._idle: list[httpcore.ConnectionPool] = []

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return egress.tls_context(str(self._config.ca_file) if self._config.ca_file else None)

    def post(self, path: str, body: dict[str, Any], seconds: float) -> contextlib.AbstractContextManager[Response]:
        """Post JSON; `seconds` for the whole exchange. Raises httpcore's errors, AddressRefused, Deadline, OSError."""
        return self._exchange("POST", path, json.dumps(body).encode(), seconds)

    def get(self, path: str, seconds: float) -> contextlib.AbstractContextManager[Response]:
        """As `post`, without a body."""
        return self._exchange("GET", path, None, seconds)

    @contextlib.contextmanager
    def _exchange(self, method: str, path: str, body: bytes | None, seconds: float) -> Iterator[Response]:
        url, host = wire_url(self._url + path)
        headers = [("Host", host), ("User-Agent", AGENT), ("Accept", "application/json, text/event-stream")]
        if body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
        if key := self._config.key.get_secret_value():
            headers.append(("Authorization", f"Bearer {key}"))
        waits = {
            "connect": self._settings.connect_timeout,
            "read": min(seconds, self._settings.read_timeout),
            "write": self._settings.connect_timeout,
        }
        with (
            egress.within(seconds),
            self._line() as line,
            line.stream(method, url, headers=headers, content=body, extensions={"timeout": waits}) as response,
        ):
            yield Response(response)

    @contextlib.contextmanager
    def _line(self) -> Iterator[httpcore.ConnectionPool]:
        """A kept connection, or a new one, for the caller alone."""
        try:
            line = self._idle.pop()
        except IndexError:
            line = egress.line(allow_private=self._config.allow_private, tls=self._tls)
        try:
            yield line
        finally:
            self._idle.append(line)
