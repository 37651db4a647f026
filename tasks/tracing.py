"""One OpenTelemetry trace per job: a span for each run of a stage, below it one per call of the model and per attempt.

Off, and nothing of OpenTelemetry is loaded, unless [tracing] endpoint is set. The trace's id is the job's own 128 bits, so
spans of any worker on any host belong together, whatever carried the job there, and an admin can go from a job's id to
its trace. Attribute names are those of OpenTelemetry's semantic conventions where they have one, else `postroom.*`.
Subjects, addresses, texts and reasons are in no span.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from config.settings import Settings
from tasks.clock import now_ms
from tasks.errors import Permanent
from tasks.ids import number_of
from tasks.models import Delivery, Job, Stage

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span, Tracer

MOST_WAIT_MS = 3000
"""How long the end of a process waits for spans that are still to be sent."""
_state: dict[str, Any] = {"tracer": None, "provider": None}
_chosen = threading.local()


class Told:
    """A span that is open, or nothing where tracing is off."""

    def __init__(self, span: Span | None) -> None:
        self._span = span

    def set(self, **attributes: str | int | float | tuple[str, ...]) -> None:
        """Add attributes; two underscores stand for a dot."""
        if self._span is not None:
            for name, value in attributes.items():
                self._span.set_attribute(name.replace("__", "."), value)

    def failed(self, kind: str) -> None:
        """It did not succeed: `kind` is one of few words, no sentence."""
        if self._span is not None:
            from opentelemetry.trace import StatusCode  # noqa: PLC0415  # only where tracing is on

            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR)


def configure(settings: Settings, instance: str, exporter: SpanExporter | None = None) -> bool:
    """Begin to trace this process, which is called `instance`, if [tracing] says so; whether it does.

    `exporter` takes the place of OTLP over HTTP, and gets each span as it ends. Raises Permanent when the extra is not
    installed.
    """
    endpoint = settings.tracing.endpoint
    if not endpoint and exporter is None:
        return False
    if not _installed():
        raise Permanent(
            "[tracing] endpoint is set and OpenTelemetry is not installed; "
            "install it with: pip install 'postroom[otel]', or leave endpoint empty"
        )
    provider = _provider(instance, endpoint, exporter)
    _state.update(provider=provider, tracer=provider.get_tracer("postroom", importlib.metadata.version("postroom")))
    return True


def _installed() -> bool:
    try:
        return all(map(importlib.util.find_spec, ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")))
    except ModuleNotFoundError:
        return False


def _provider(instance: str, endpoint: str, exporter: SpanExporter | None) -> TracerProvider:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415  # as above
    from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor  # noqa: PLC0415
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator  # noqa: PLC0415

    class Ids(RandomIdGenerator):
        """Random ids, but for the span of a whole job."""

        def generate_trace_id(self) -> int:
            return getattr(_chosen, "trace", None) or super().generate_trace_id()

        def generate_span_id(self) -> int:
            return getattr(_chosen, "span", None) or super().generate_span_id()

    version = importlib.metadata.version("postroom")
    told = {"service.name": "postroom", "service.version": version, "service.instance.id": instance}
    provider = TracerProvider(resource=Resource.create(told), id_generator=Ids(), shutdown_on_exit=False)
    sending = OTLPSpanExporter(endpoint=endpoint) if exporter is None else exporter
    provider.add_span_processor(BatchSpanProcessor(sending) if exporter is None else SimpleSpanProcessor(sending))
    return provider


def close() -> None:
    """Send what is left, for a few seconds at most, and trace no more."""
    if (provider := _state["provider"]) is not None:
        _state.update(tracer=None, provider=None)
        provider.force_flush(MOST_WAIT_MS)
        provider.shutdown()


@contextlib.contextmanager
def stage(job: Job, stage: Stage) -> Iterator[Told]:
    """One run of a stage."""
    if (tracer := _tracer()) is None:
        yield Told(None)
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    facts = {**_facts(job), "postroom.stage": stage.value, "postroom.attempt": job.attempts}
    with tracer.start_as_current_span(
        stage.value, _below_job(job.id), SpanKind.CONSUMER, facts, record_exception=False, set_status_on_exception=False
    ) as span:
        yield Told(span)


def stage_ended(outcome: str) -> None:
    """What became of the stage that runs in this thread."""
    if _tracer() is None:
        return
    from opentelemetry.trace import get_current_span  # noqa: PLC0415

    told = Told(get_current_span())
    told.set(postroom__outcome=outcome)
    if outcome not in {"done", "review"}:
        told.failed(outcome)


def job_ended(job: Job, outcome: str) -> None:
    """The span over all: from the message's arrival until now."""
    if (tracer := _tracer()) is None:
        return
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    _chosen.trace, _chosen.span = _ids(job.id)
    try:
        facts = {**_facts(job), "postroom.outcome": outcome}
        span = tracer.start_span("job", Context(), SpanKind.INTERNAL, facts, start_time=job.received_at * 1_000_000)
    finally:
        _chosen.trace = _chosen.span = None
    if outcome != "done":
        Told(span).failed(outcome)
    span.end(now_ms() * 1_000_000)


@contextlib.contextmanager
def model_call(model: str, host: str, most_tokens: int, phase: str, provider: str = "ollama") -> Iterator[Told]:
    """One call of the model; the caller tells the tokens."""
    facts = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": provider,
        "gen_ai.request.model": model,
        "gen_ai.request.max_tokens": most_tokens,
        "postroom.phase": phase,
        **_server(host if "//" in host else f"//{host}", 11434),
    }
    with _client(f"chat {model}", facts) as told:
        yield told


@contextlib.contextmanager
def attempt(delivery: Delivery, settings: Settings, number: int) -> Iterator[Told]:
    """One attempt to deliver."""
    facts: dict[str, str | int] = {"postroom.delivery": delivery.ordinal, "postroom.delivery.attempt": number}
    if delivery.transport == "webhook":
        endpoint = settings.endpoint.get(delivery.target)
        facts |= {"http.request.method": "POST", "postroom.endpoint": delivery.target}
        facts |= _server(endpoint.url, 443 if endpoint.url.startswith("https") else 80) if endpoint else {}
    else:
        out = settings.smtp_out
        facts |= {"network.protocol.name": "smtp", "server.address": out.host, "server.port": out.port}
    with _client("POST" if delivery.transport == "webhook" else delivery.transport, facts) as told:
        yield told


@contextlib.contextmanager
def _client(name: str, facts: dict[str, Any]) -> Iterator[Told]:
    if (tracer := _tracer()) is None:
        yield Told(None)
        return
    from opentelemetry.trace import SpanKind  # noqa: PLC0415

    with tracer.start_as_current_span(
        name, None, SpanKind.CLIENT, facts, record_exception=False, set_status_on_exception=False
    ) as span:
        told = Told(span)
        try:
            yield told
        except Exception as error:
            told.failed(type(error).__name__)
            raise


def _tracer() -> Tracer | None:
    found: Tracer | None = _state["tracer"]
    return found


def _facts(job: Job) -> dict[str, Any]:
    facts = {"postroom.job": job.id, "postroom.source": job.source, "postroom.kind": job.kind.value}
    return facts | ({"postroom.route": job.route} if job.route else {})


def _server(url: str, port: int) -> dict[str, str | int]:
    parts = urlsplit(url)
    return {"server.address": parts.hostname or "", "server.port": parts.port or port}


def _below_job(job_id: str) -> Any:
    from opentelemetry.context import Context  # noqa: PLC0415
    from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context  # noqa: PLC0415

    trace, span = _ids(job_id)
    above = SpanContext(trace, span, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED))
    return set_span_in_context(NonRecordingSpan(above), Context())


def _ids(job_id: str) -> tuple[int, int]:
    """Trace id and the id of the job's own span; neither is 0, which would be none."""
    digest = hashlib.sha256(job_id.encode()).digest()
    return number_of(job_id) or 1, int.from_bytes(digest[:8], "big") or 1
