"""Traces: one for each job over all its stages, with names that others know, and nobody's words; off by default."""

from __future__ import annotations

import importlib
import json
import pkgutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from config.engine import ModelSettings, TracingSettings
from config.errors import ConfigError
from config.settings import Settings, load
from tasks import tracing
from tasks.errors import Permanent, Transient
from tasks.ids import new_job_id, number_of
from tasks.intake import Intake
from tasks.judging.calls import Ask
from tasks.ledger import Ledger
from tasks.model import Models
from tasks.models import Delivery, State
from tasks.workshop import Workshop
from tests.unit.test_pipeline import StandIn, accept, judge, make_due, shop, trip

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

__all__ = ["judge", "shop"]  # fixtures


@pytest.fixture
def spans(settings: Settings) -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    assert tracing.configure(settings, "tester", exporter)
    yield exporter
    tracing.close()


def named(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in spans.get_finished_spans()}


@pytest.mark.sqlite_only
def test_a_job_is_one_trace(
    shop: Workshop, intake: Intake, sent: list[Delivery], spans: InMemorySpanExporter, ledger: Ledger
) -> None:
    """Its stages below one span over all of it, its attempt below the stage; the trace's id is the job's own."""
    job_id = accept(intake)
    job = trip(shop, job_id)
    assert job.state is State.DONE
    found = named(spans)
    assert found.keys() == {"job", "extract", "classify", "reply", "deliver", "smtp"}
    contexts = {name: span.get_span_context() for name, span in found.items()}
    assert {context.trace_id for context in contexts.values() if context} == {number_of(job_id)}
    whole = contexts["job"]
    assert whole
    assert found["job"].parent is None
    for name in ("extract", "classify", "reply", "deliver"):
        assert (above := found[name].parent) is not None
        assert above.span_id == whole.span_id
    assert found["smtp"].parent == contexts["deliver"]
    assert found["job"].start_time == job.received_at * 1_000_000
    last = found["deliver"].end_time
    assert last
    assert (found["job"].end_time or 0) >= last - 2_000_000, "to the millisecond, after all of it"
    assert found["smtp"].kind is SpanKind.CLIENT
    attributes = dict(found["deliver"].attributes or {})
    assert (attributes["postroom.job"], attributes["postroom.outcome"]) == (job_id, "done")
    assert found["job"].resource.attributes["service.name"] == "postroom"
    assert found["job"].resource.attributes["service.instance.id"] == "tester"


@pytest.mark.sqlite_only
def test_names_are_those_of_the_conventions_and_words_are_nobodys(
    shop: Workshop, intake: Intake, sent: list[Delivery], spans: InMemorySpanExporter, ledger: Ledger
) -> None:
    """Each attribute is one of OpenTelemetry's or begins with `postroom.`; no subject, address or text is in any."""
    trip(shop, accept(intake))
    with tracing.model_call("m", "http://127.0.0.1:11434", 100, "label") as told:
        told.set(
            gen_ai__usage__input_tokens=1, gen_ai__usage__output_tokens=1, gen_ai__response__finish_reasons=("stop",)
        )
    hook = Delivery(ordinal=1, transport="webhook", target="shop", key="k", body=b"")
    configured = Settings.model_validate({"endpoint": {"shop": {"url": "https://shop.example/secret-path?key=1"}}})
    with tracing.attempt(hook, configured, 2) as told:
        told.set(http__response__status_code=200)
    known = conventions()
    used = {name for span in spans.get_finished_spans() for name in span.attributes or {}}
    assert {name for name in used if not name.startswith("postroom.")} - known == set()
    assert {"server.address", "http.request.method", "gen_ai.request.model"} <= used
    written = json.dumps([json.loads(span.to_json()) for span in spans.get_finished_spans()])
    for word in ("Bill", "sender.example", "Pay", "Thank you", "secret-path", "key=1"):
        assert word not in written


def conventions() -> set[str]:
    """Every attribute name that the conventions' package knows."""
    found = set()
    for package in ("opentelemetry.semconv.attributes", "opentelemetry.semconv._incubating.attributes"):
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__, f"{package}."):
            values = vars(importlib.import_module(module.name)).values()
            found |= {value for value in values if isinstance(value, str)}
    return found


@pytest.mark.sqlite_only
def test_what_goes_wrong_is_an_error_of_few_words(
    shop: Workshop, intake: Intake, judge: StandIn, spans: InMemorySpanExporter, ledger: Ledger
) -> None:
    """A wait is told on its stage only; at the end, the job's span tells that it failed; both runs are in the trace."""
    judge.error = Transient("the words of somebody")
    job_id = accept(intake)
    trip(shop, job_id)
    found = named(spans)
    assert found["classify"].status.status_code is StatusCode.ERROR
    assert (found["classify"].attributes or {})["error.type"] == "waits"
    assert "job" not in found
    judge.error = Permanent("never")
    make_due(shop, job_id)
    trip(shop, job_id)
    runs = [span for span in spans.get_finished_spans() if span.name == "classify"]
    assert [(span.attributes or {})["postroom.attempt"] for span in runs] == [1, 2]
    whole = named(spans)["job"]
    assert (whole.attributes or {})["error.type"] == "failed"
    assert "somebody" not in "".join(span.to_json() for span in spans.get_finished_spans())


class Chat(BaseHTTPRequestHandler):
    """Answers one question as Ollama does, in two pieces."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        pieces = [
            {"model": "m", "message": {"role": "assistant", "content": "Yes"}, "done": False},
            {"model": "m", "message": {"role": "assistant", "content": ""}, "done": True}
            | {"done_reason": "stop", "prompt_eval_count": 12, "eval_count": 3},
        ]
        body = "".join(json.dumps(piece) + "\n" for piece in pieces).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/x-ndjson")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.sqlite_only
def test_a_call_of_the_model_tells_its_tokens(spans: InMemorySpanExporter) -> None:
    """As the conventions for generative models name them, with the server's address."""
    with HTTPServer(("127.0.0.1", 0), Chat) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        engine = Models(ModelSettings(host=f"http://127.0.0.1:{server.server_port}"))
        engine.ask(Ask("m", [{"role": "user", "content": "Well?"}], "label", 50, 2048))
        port = server.server_port
    attributes = dict(named(spans)["chat m"].attributes or {})
    assert attributes["gen_ai.usage.input_tokens"] == 12
    assert attributes["gen_ai.usage.output_tokens"] == 3
    assert attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", port)


@pytest.mark.sqlite_only
def test_it_is_off_and_loads_nothing_unless_it_is_configured(settings: Settings) -> None:
    """No trace without an endpoint, and our side loads nothing of OpenTelemetry (redis-py does, where it finds it)."""
    assert not tracing.configure(settings, "tester")
    program = "import sys, tasks.tracing, tasks.model; print([name for name in sys.modules if 'opentelemetry' in name])"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_without_the_extra_it_says_what_to_install(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A setting that does nothing would be found out too late."""
    wanted = settings.model_copy(update={"tracing": TracingSettings(endpoint="http://127.0.0.1:4318/v1/traces")})
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    with pytest.raises(Permanent, match=r"pip install 'postroom\[otel\]'"):
        tracing.configure(wanted, "tester")


def test_an_address_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the rest of the configuration."""
    monkeypatch.setenv("POSTROOM_TRACING__ENDPOINT", "localhost:4318")
    with pytest.raises(ConfigError, match=r"is no address; write http://127\.0\.0\.1:4318/v1/traces"):
        load(None)


class Collector(BaseHTTPRequestHandler):
    """Takes one export and keeps its path and bytes."""

    def do_POST(self) -> None:
        self.server.got = (self.path, self.rfile.read(int(self.headers["Content-Length"])))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.sqlite_only
def test_spans_reach_a_collector(settings: Settings) -> None:
    """By OTLP over HTTP at the address that is configured, at the latest when the process ends."""
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        taking = threading.Thread(target=server.handle_request, daemon=True)
        taking.start()
        endpoint = TracingSettings(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces")
        assert tracing.configure(settings.model_copy(update={"tracing": endpoint}), "tester")
        with tracing.model_call("m", "http://127.0.0.1:11434", 100, "label"):
            pass
        tracing.close()
        taking.join(30)
        path, body = server.got  # type: ignore[attr-defined]
    [one] = ExportTraceServiceRequest.FromString(body).resource_spans
    assert path == "/v1/traces"
    assert [span.name for scope in one.scope_spans for span in scope.spans] == ["chat m"]


@pytest.mark.sqlite_only
def test_a_collector_that_is_away_holds_up_nothing(
    shop: Workshop, intake: Intake, sent: list[Delivery], settings: Settings
) -> None:
    """Jobs go on; the process ends in time."""
    away = settings.model_copy(update={"tracing": TracingSettings(endpoint="http://127.0.0.1:9/v1/traces")})
    assert tracing.configure(away, "tester")
    try:
        assert trip(shop, accept(intake)).state is State.DONE
    finally:
        closing = threading.Thread(target=tracing.close)
        closing.start()
        closing.join(30)
    assert not closing.is_alive()


def test_a_job_id_is_a_trace_id() -> None:
    """All of its 128 bits, so that two jobs never share a trace."""
    assert number_of("0" * 25 + "z") == 31
    assert number_of("7" + "z" * 25) == 2**128 - 1
    first, second = new_job_id(), new_job_id()
    assert number_of(first) != number_of(second)
    with pytest.raises(ValueError, match="substring not found"):
        number_of("!")
