"""Settings of the language model, the workers and their clocks."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from config.inbound import Section

OLLAMA_PORT = 11434


class ModelSettings(Section):
    """How Ollama is asked; routes may override `name` and `options`."""

    host: str = Field(
        "", description="Ollama's address; empty: OLLAMA_HOST, else 127.0.0.1:11434, else the embedded server."
    )
    name: str = Field("qwen2.5-coder:1.5b", description="Model for all calls unless a route names another.")
    num_ctx: int = Field(8192, ge=512, description="Context in tokens; longer documents are split, never cut.")
    max_ctx: int = Field(
        0,
        ge=0,
        description="For a document that needs more, num_ctx is doubled up to this, within the model's own limit; 0: it is "
        "split instead. Ollama loads the model anew for another context, and needs memory for it.",
    )
    document_time: float = Field(
        300,
        ge=0,
        description="Seconds after which no further part of a long document is shown to the model. The pages that promise "
        "most come first, and what was not shown is told; 0: everything is.",
    )
    max_output: int = Field(700, ge=16, description="num_predict: tokens that one call may write.")
    keep_alive: str = Field("30m", description="How long Ollama holds the model in memory.")
    connect_timeout: float = Field(5, gt=0, description="Seconds to connect.")
    read_timeout: float = Field(300, gt=0, description="Seconds of silence between two pieces of an answer.")
    call_timeout: float = Field(900, gt=0, description="Seconds that one call may take in all.")
    min_confidence: float = Field(0.5, ge=0, le=1, description="Below it a job rests in review.")
    calibration: str = Field(
        "", description="File that `postroom eval --calibrate` writes; empty: calibration.json in state_dir."
    )

    def address(self) -> str:
        """Ollama's base URL: `host`, else OLLAMA_HOST, else its usual port on loopback."""
        given = self.host or os.environ.get("OLLAMA_HOST") or "127.0.0.1"
        url = urlsplit(given if "//" in given else f"http://{given}")
        host = url.hostname or "127.0.0.1"
        shown = f"[{host}]" if ":" in host else host
        return f"{url.scheme}://{shown}:{url.port or (443 if url.scheme == 'https' else OLLAMA_PORT)}"


class WorkerSettings(Section):
    """How stages are run."""

    fetch_concurrency: int = Field(4, ge=1, description="Events whose files are fetched at once.")
    extract_concurrency: int = Field(2, ge=1, description="Documents read at once.")
    model_concurrency: int = Field(1, ge=1, description="Model calls at once; keep at or below OLLAMA_NUM_PARALLEL.")
    deliver_concurrency: int = Field(4, ge=1, description="Deliveries at once.")
    max_attempts: int = Field(8, ge=1, description="Attempts of a stage before the job fails.")
    backoff_base: float = Field(2, gt=0, description="Seconds: full jitter over base x 2^n.")
    backoff_cap: float = Field(900, gt=0, description="Seconds: the longest wait between attempts of a stage.")
    outage_wait: float = Field(10, gt=0, description="Seconds before a dependency that was down is tried again.")
    canary: float = Field(
        30, gt=0, description="Seconds between a worker's proofs that it consumes; after three that fail it ends."
    )
    events: bool = Field(
        False, description="Send Celery's events, from which `postroom flower` knows workers and tasks."
    )
    lease: float = Field(
        60, gt=1, description="Seconds without a beat of its worker after which a stage is given to another one."
    )
    fetch_lease: float = Field(0, ge=0, description="The same for fetch; 0: as `lease`.")
    extract_lease: float = Field(0, ge=0, description="The same for extract; 0: as `lease`.")
    classify_lease: float = Field(0, ge=0, description="The same for classify; 0: as `lease`.")
    reply_lease: float = Field(0, ge=0, description="The same for reply; 0: as `lease`.")
    deliver_lease: float = Field(
        0,
        ge=0,
        description="The same for deliver; 0: three times `lease`, because what is given away too early is sent twice.",
    )

    @field_validator("fetch_lease", "extract_lease", "classify_lease", "reply_lease", "deliver_lease")
    @classmethod
    def _long_enough(cls, value: float) -> float:
        if 0 < value <= 1:
            raise ValueError("a beat comes once a second at most: write 0, or more than 1")
        return value

    def lease_of(self, stage: str) -> float:
        """Seconds that the lease of `stage` outlives the last beat."""
        given: float = getattr(self, f"{stage}_lease")
        return given or self.lease * (3 if stage == "deliver" else 1)

    def shortest_lease(self) -> float:
        """Seconds; beats are counted several times within it."""
        given = (self.fetch_lease, self.extract_lease, self.classify_lease, self.reply_lease, self.deliver_lease)
        return min([self.lease, *(one for one in given if one)])


class TracingSettings(Section):
    """Traces by OpenTelemetry, one for each job; needs the extra `otel`."""

    endpoint: str = Field("", description="OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; empty: no traces.")

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[\x21-\x7e]+", value):
            raise ValueError(f"{value!r} is no address; write http://127.0.0.1:4318/v1/traces")
        return value


class RescueSettings(Section):
    """What `postroom rescue` watches."""

    tick: float = Field(1, gt=0, description="Seconds between looks.")
    lost_after: float = Field(30, gt=0, description="Seconds until an enqueued job that nobody started counts as lost.")
    max_queued: int = Field(1000, ge=1, description="Jobs put back to the queue at most ahead of the workers.")


class RetentionSettings(Section):
    """How long ended jobs are kept, with all that is known of them. Open jobs and those in review always are."""

    done: float = Field(0, ge=0, description="Days after its end that a done job is removed; 0: never.")
    failed: float = Field(0, ge=0, description="Days after its end that a failed job is removed; 0: never.")
    cancelled: float = Field(0, ge=0, description="Days after its end that a cancelled job is removed; 0: never.")
    every: float = Field(3600, gt=0, description="Seconds between the looks that `postroom rescue` takes.")

    def days(self) -> dict[str, float]:
        """Days by state, of the states that are removed at all."""
        given = {"done": self.done, "failed": self.failed, "cancelled": self.cancelled}
        return {state: days for state, days in given.items() if days}
