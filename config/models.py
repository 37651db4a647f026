"""Which model does which task, and which servers have it. `[model]` itself: config/engine.py."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator

from config.inbound import Section, is_loopback

Task = Literal["classify", "fields", "reply"]
TASKS: tuple[Task, ...] = ("classify", "fields", "reply")
"""What a model is asked for: the label, the fields and the summary, the reply's sentences."""
OLLAMA_PORT = 11434


def _host(value: str) -> str:
    parts = urlsplit(value if "//" in value else f"http://{value}")
    try:
        fits = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"{value!r} is no address of a server; write http://host:{OLLAMA_PORT}")
    return value


Host = Annotated[str, AfterValidator(_host)]
Options = dict[str, float | int | str | bool]


ClassName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]
ServerName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]


class TaskModel(Section):
    """The model of one task: what is empty is as for the other tasks."""

    name: str = Field("", description="Model.")
    fallback: str = Field(
        "", description="Model that is asked when the first is not there, or its answers do not follow the form."
    )
    keep_alive: str = Field("", description="How long Ollama holds the model in memory.")
    options: Options = Field(
        default_factory=dict, description="Passed to the model's server; each counts before those for all tasks."
    )


class TaskModels(TaskModel):
    """A model for all tasks, and what differs for some of them."""

    classify: TaskModel = Field(TaskModel(), description="What differs where the label is found.")
    fields: TaskModel = Field(TaskModel(), description="What differs where fields and summary are read.")
    reply: TaskModel = Field(TaskModel(), description="What differs where the reply's sentences are written.")


class ModelServer(Section):
    """A server with OpenAI's API (vLLM, llama-server, hosted): [model.server.NAME]; its models are called NAME/MODEL."""

    urls: tuple[str, ...] = Field(
        min_length=1, description="Where its API begins: https://host/v1. Several hosts have the same models."
    )
    key: SecretStr = Field(
        SecretStr(""), description="For `Authorization: Bearer`; better as systemd credential than in the file."
    )
    context: int = Field(
        0, ge=0, description="Context in tokens of its models; 0: as the server tells, else [model] num_ctx."
    )
    parallel: int = Field(16, ge=1, description="Calls at once of each of the urls by all processes of this machine.")
    allow_private: bool = Field(True, description="Allow loopback and private addresses.")
    ca_file: Path | None = Field(None, description="PEM authorities to trust instead of the system's.")

    @field_validator("urls")
    @classmethod
    def _are_http(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for url in value:
            parts = urlsplit(_host(url))
            if not parts.scheme.startswith("http") or parts.username or parts.password or parts.query:
                raise ValueError(f"{url!r} is no base of an API; write https://host/v1, and the key as key")
        return tuple(url.rstrip("/") for url in value)

    @model_validator(mode="after")
    def _keeps_its_key(self) -> ModelServer:
        key = self.key.get_secret_value()
        if not re.fullmatch(r"[\x21-\x7e]*", key):
            raise ValueError("key holds characters that HTTP forbids; use plain ASCII without blanks")
        for url in self.urls if key else ():
            if urlsplit(url).scheme == "http" and not is_local(url):
                raise ValueError(f"{url} would send the key in clear; write https://, or take the key out")
        return self


def chosen(task: Task, *places: TaskModels) -> TaskModel:
    """The model for `task`; `places` from the most general one to the most particular one, whose words count."""
    layers: list[TaskModel] = [layer for place in places for layer in (place, getattr(place, task))]
    options: Options = {}
    for layer in layers:
        options |= layer.options
    name, fallback, keep_alive = (
        _last(getattr(layer, key) for layer in layers) for key in ("name", "fallback", "keep_alive")
    )
    return TaskModel(name=name, fallback="" if fallback == name else fallback, keep_alive=keep_alive, options=options)


def _last(values: Iterable[str]) -> str:
    return next((value for value in reversed(list(values)) if value), "")


def address_of(host: str, port: int) -> str:
    """The base URL of a server, such as http://127.0.0.1:11434, from what somebody wrote for it."""
    url = urlsplit(host if "//" in host else f"http://{host}")
    name = url.hostname or "127.0.0.1"
    shown = f"[{name}]" if ":" in name else name
    return f"{url.scheme}://{shown}:{url.port or (443 if url.scheme == 'https' else port)}"


def is_local(host: str) -> bool:
    """Whether a server is on this machine, so that no proxy stands between."""
    return is_loopback(urlsplit(host if "//" in host else f"//{host}").hostname or "")
