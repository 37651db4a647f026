"""Settings of the language model, the workers and their clocks."""

from __future__ import annotations

import os
import re

from pydantic import Field, field_validator, model_validator

from config.inbound import Section
from config.models import OLLAMA_PORT, ClassName, Host, ModelServer, Options, ServerName, TaskModels, address_of


class ModelSettings(TaskModels):
    """How models are asked. Routes may have others: see their [model]."""

    host: str = Field(
        "", description="Ollama's address; empty: OLLAMA_HOST, else 127.0.0.1:11434, else the embedded server."
    )
    hosts: tuple[Host, ...] = Field(
        (), description="Several Ollamas with the same models, instead of `host`: one that is away costs nothing."
    )
    name: str = Field("qwen2.5-coder:1.5b", description="Model for all calls unless a task or a route names another.")
    fallback: str = Field(
        "",
        description="Model that is asked when the first is not there, or its answers do not follow the form; empty: none.",
    )
    options: Options = Field(
        default_factory=dict, description="Options for every call, as Ollama names them: temperature, top_p, num_gpu."
    )
    server: dict[ServerName, ModelServer] = Field(
        default_factory=dict, description="Servers with OpenAI's API by name; their models are called NAME/MODEL."
    )
    classes: dict[str, ClassName] = Field(
        default_factory=dict,
        description='Classes of models by name, such as {"qwen2.5:32b" = "gpu"}: their jobs are for the queue model.gpu, the '
        "others' for model.",
    )
    parallel: int = Field(
        0,
        ge=0,
        description="Calls at once of each Ollama by all processes of this machine; 0: OLLAMA_NUM_PARALLEL where that is "
        "set, else [worker] model_concurrency.",
    )
    swap_patience: float = Field(
        30,
        ge=0,
        description="Seconds that a job waits at most for those that need the model which is in memory already.",
    )
    embed: str = Field(
        "", description="Model that tells what documents mean, for `postroom similar` and `jobs --like`; empty: none."
    )
    embed_every: float = Field(60, gt=0, description="Seconds between two looks for documents that it has not seen.")
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
    evening: float = Field(
        0.4, ge=0, le=1, description="How much of the model's leaning to one label is taken out; 0: nothing."
    )
    min_confidence: float = Field(0.5, ge=0, le=1, description="Below it a job rests in review.")
    calibration: str = Field(
        "", description="File that `postroom eval --calibrate` writes; empty: calibration.json in state_dir."
    )

    @model_validator(mode="after")
    def _one_of(self) -> ModelSettings:
        if self.host and self.hosts:
            raise ValueError("host and hosts say the same twice; write one of them")
        return self

    def servers(self) -> tuple[str, ...]:
        """The Ollamas as they are written: `hosts`, else `host`, else OLLAMA_HOST, else its usual port on loopback."""
        return self.hosts or (self.host or os.environ.get("OLLAMA_HOST") or "http://127.0.0.1:11434",)

    def addresses(self) -> tuple[str, ...]:
        """Their base URLs."""
        return tuple(dict.fromkeys(address_of(one, OLLAMA_PORT) for one in self.servers()))

    def slots(self, otherwise: int) -> int:
        """Calls at once of each Ollama."""
        given = os.environ.get("OLLAMA_NUM_PARALLEL", "")
        return self.parallel or (int(given) if given.isdecimal() else 0) or otherwise

    def server_of(self, model: str) -> tuple[str, str]:
        """The name in [model.server] that `model` begins with (empty: it is Ollama's), and what it is called there."""
        name, slash, rest = model.partition("/")
        return (name, rest) if slash and name in self.server else ("", model)

    def dependencies(self) -> tuple[str, ...]:
        """The servers' names among the dependencies."""
        others = dict.fromkeys(address_of(url, 80) for one in self.server.values() for url in one.urls)
        return (*(f"ollama:{one}" for one in self.addresses()), *(f"openai:{one}" for one in others))

    def is_given(self) -> bool:
        """Whether somebody said where Ollama is."""
        return bool(self.hosts or self.host or os.environ.get("OLLAMA_HOST"))


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
