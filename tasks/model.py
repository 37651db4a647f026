"""What the stages ask: `Judge`. Which server answers for a model, and how one is spoken to, is in tasks/hosts.py and below.

What is asked, and what becomes of the answers, is in tasks/judging.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from config.engine import ModelSettings
from config.models import TASKS, chosen
from config.routes import Route, RouteModel
from tasks.errors import NeedsReview
from tasks.hosts import Hosts
from tasks.judging.calibrations import Calibrations
from tasks.judging.calls import Answer, Ask, OnProgress, Progress, TooLong
from tasks.judging.classify import FreeText, Trip
from tasks.judging.leaning import Leanings
from tasks.models import Classification, Document, MailFacts
from tasks.prompts import Prompts
from tasks.providers.ollama import Ollama
from tasks.providers.openai import OpenAI
from tasks.providers.server import Server
from tasks.turns import Turns

__all__ = ["FreeText", "Judge", "Models", "Progress"]


class Judge:
    """Says what a job is, reads its fields, and writes the reply's own sentences. Threads may share one."""

    def __init__(
        self,
        settings: ModelSettings,
        templates: Path | None = None,
        *,
        calibrations: Path | None = None,
        turns: Path | None = None,
        slots: int = 1,
    ) -> None:
        """`templates` is the folder with `prompts/`; None takes the shipped one. `calibrations` is a file or None.

        `turns`, `slots`: see Models.
        """
        self._settings = settings
        self._prompts = Prompts(templates / "prompts" if templates else None)
        self._models = Models(settings, turns, slots)
        self._calibrations = Calibrations(calibrations)
        self._leanings = Leanings()

    def classify(
        self,
        documents: Sequence[Document],
        mail: MailFacts | None,
        route: Route,
        progress: OnProgress | None = None,
    ) -> Classification:
        """Label, fields and summary of one job; `Classification.review` says why a person has to look, if one has to.

        Raises NeedsReview when there is nothing to read or nothing fits, Unavailable (`ollama:HOST`) when the server
        or the model is not there, Transient when an answer broke off.
        """
        trip = Trip(
            self._models,
            self._prompts,
            self._settings,
            route,
            progress,
            calibrations=self._calibrations,
            leanings=self._leanings,
        )
        try:
            return trip.classify(documents, mail)
        except TooLong as error:
            raise NeedsReview(f"the model cannot read it: {error}") from None

    def free_text(
        self,
        documents: Sequence[Document],
        mail: MailFacts | None,
        classification: Classification,
        route: Route,
        progress: OnProgress | None = None,
    ) -> FreeText:
        """A few safe sentences for the reply in the documents' language; empty when none survived cleaning.

        Raises as `classify` does.
        """
        trip = Trip(self._models, self._prompts, self._settings, route, progress, "reply")
        try:
            return trip.free_text(documents, mail, classification)
        except TooLong as error:
            raise NeedsReview(f"the reply's text cannot be written: {error}") from None


class Models:
    """Every model there is, by name."""

    def __init__(self, settings: ModelSettings, turns: Path | None = None, slots: int = 1) -> None:
        """`turns`: the folder in which processes agree whose turn it is; None: for this one alone.

        `slots`: calls at once of each Ollama where [model] parallel says nothing.
        """
        self._settings = settings

        def kept(name: str, number: int) -> Turns:
            folder = turns / name if turns else None
            return Turns(folder, number, settings.swap_patience, settings.call_timeout)

        ollamas = [Ollama(host, settings) for host in settings.servers()]
        self._hosts = {"": Hosts(ollamas, kept("ollama", settings.slots(slots)))}
        for name, config in settings.server.items():
            urls = [OpenAI(name, url, config, settings) for url in config.urls]
            self._hosts[name] = Hosts(urls, kept(f"server-{name}", config.parallel))

    def wanted(self, routes: Sequence[Route]) -> Iterator[tuple[Server, frozenset[str]]]:
        """Every server with the models that `routes` ask it for; without routes those of [model] itself."""
        places = [route.model for route in routes] or [RouteModel()]
        found = [chosen(task, self._settings, place) for place in places for task in TASKS]
        names: dict[str, set[str]] = {}
        embeds = self._settings.embed
        for model in {name for one in found for name in (one.name, one.fallback) if name} | (
            {embeds} if embeds else set()
        ):
            where, name = self._settings.server_of(model)
            names.setdefault(where, set()).add(name)
        for where, wanted in names.items():
            for server in self._hosts[where].servers:
                yield server, frozenset(wanted)

    def context_limit(self, model: str) -> int:
        """The longest context of a model, in tokens. Raises Unavailable."""
        where, name = self._settings.server_of(model)
        return self._hosts[where].context_limit(name)

    def embed(self, text: str, *, waits: bool = False) -> list[float]:
        """What `text` means to the model that [model] embed names. `waits`: all other questions go first.

        Raises TooLong where the text does not fit, Unavailable, Transient.
        """
        where, name = self._settings.server_of(self._settings.embed)
        return self._hosts[where].embed(name, text, waits=waits)

    def ask(self, wish: Ask, progress: OnProgress | None = None) -> Answer:
        """Make one call. Raises as tasks.hosts.Hosts.ask does."""
        where, name = self._settings.server_of(wish.model)
        return self._hosts[where].ask(replace(wish, model=name), progress)
