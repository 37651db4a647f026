"""The routes as the pages know them: read anew every few seconds, so that an edited file shows."""

from __future__ import annotations

from http import HTTPStatus

from config.errors import ConfigError
from config.routes import Route
from config.settings import Settings
from daemon.web.pages.ask import Stop
from daemon.web.pages.kept import Kept
from tasks.configured import routes_of

SECONDS = 5.0


class Routing:
    """Reads the routes when they are asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept = Kept(self._read, SECONDS)

    def all(self) -> tuple[Route, ...]:
        """Every route in order. Raises Stop when a file of theirs is wrong."""
        return self._kept()

    def _read(self) -> tuple[Route, ...]:
        settings = self._settings
        try:
            return routes_of(settings)
        except ConfigError as error:
            raise Stop(HTTPStatus.CONFLICT, "The routes cannot be read", str(error)) from None
