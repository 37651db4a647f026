"""Settings: environment > systemd credentials > postroom.toml > defaults.

A name in the environment is `POSTROOM_` and the path in the file with two underscores for each dot:
`POSTROOM_SMTP_OUT__PASSWORD` is `[smtp_out] password`. A systemd credential has the same name without the prefix
(`LoadCredential=smtp_out__password:/etc/...`), or with a `postroom_` before it, as `LoadCredential=postroom:/etc/...`
names the files of a folder.
"""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from config.documents import PasswordList
from config.engine import ModelSettings, RescueSettings, RetentionSettings, TracingSettings, WorkerSettings
from config.errors import ConfigError, Problem, line_of, problems_of
from config.imap import ImapAccount
from config.inbound import FolderListener, SmtpListener, WebhookSource, WebListener
from config.outbound import Alerts, SmtpOut, WebhookEndpoint
from config.pages import PagesSettings
from config.review import ReviewSettings
from config.storage import BlobSettings
from config.trust import TrustSettings

SHIPPED = Path(__file__).resolve().parent
TEMPLATES = SHIPPED.parent / "templates"
SYSTEM_FILE = Path("/etc/postroom/postroom.toml")
SYSTEM_CREDENTIALS = SYSTEM_FILE.parent / "credentials"
"""What the units load. A root shell reads it too, so that commands know what the processes know."""


def default_state_dir() -> Path:
    """$STATE_DIRECTORY under systemd, else $XDG_STATE_HOME/postroom (~/.local/state/postroom)."""
    if given := os.environ.get("STATE_DIRECTORY"):
        return Path(given.split(":")[0])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "postroom"


class Settings(BaseSettings):
    """Everything that may be set. docs/configuration.md is generated from this class."""

    model_config = SettingsConfigDict(env_prefix="POSTROOM_", env_nested_delimiter="__", extra="forbid", frozen=True)
    state_dir: Path = Field(
        default_factory=default_state_dir, description="Folder of ledger, blobs and embedded parts."
    )
    ledger_url: str = Field(
        "", description="SQLAlchemy URL; empty: SQLite (WAL) in state_dir. postgresql+psycopg://... for many hosts."
    )
    broker_url: str = Field(
        "", description="Celery broker; empty: embedded Valkey under `postroom up`, redis://127.0.0.1:6379/0 otherwise."
    )
    routes_dir: Path = Field(SHIPPED / "routes", description="Folder of route files, read in order of name.")
    templates_dir: Path = Field(TEMPLATES, description="Folder with reply/, webhook/ and prompts/.")
    inline_limit: int = Field(65536, ge=0, description="Raw messages up to this many bytes live in the ledger row.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged.")
    log_format: Literal["auto", "json", "console"] = Field("auto", description="auto: JSON when not on a terminal.")
    log_addresses: bool = Field(False, description="Write sender addresses into log lines.")
    secret: SecretStr = Field(
        SecretStr(""), description="Key for Message-ID tokens; empty: made once and kept in state_dir."
    )

    smtp: SmtpListener = SmtpListener()
    web: WebListener = WebListener()
    pages: PagesSettings = PagesSettings()
    review: ReviewSettings = ReviewSettings()
    imap: dict[str, ImapAccount] = Field(default_factory=dict, description="Mailboxes by name.")
    folder: dict[str, FolderListener] = Field(default_factory=dict, description="Drop folders by name.")
    webhook: dict[str, WebhookSource] = Field(default_factory=dict, description="Webhook sources by name.")
    trust: TrustSettings = TrustSettings()
    blobs: BlobSettings = BlobSettings()
    passwords: dict[str, PasswordList] = Field(
        default_factory=dict, description="Passwords of locked documents, by name."
    )
    smtp_out: SmtpOut = SmtpOut()
    endpoint: dict[str, WebhookEndpoint] = Field(default_factory=dict, description="Webhook endpoints by name.")
    alerts: Alerts = Alerts()
    model: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    rescue: RescueSettings = RescueSettings()
    retention: RetentionSettings = RetentionSettings()
    tracing: TracingSettings = TracingSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Environment first, then systemd credentials, then the file (passed as init values)."""
        sources: list[PydanticBaseSettingsSource] = [env_settings]
        given = getattr(file_secret_settings, "secrets_dir", None)
        if folder := os.environ.get("CREDENTIALS_DIRECTORY") or given:
            sources += [
                NestedSecretsSettingsSource(
                    file_secret_settings,
                    secrets_dir=folder,
                    secrets_nested_delimiter="__",
                    secrets_prefix=prefix,
                )
                for prefix in ("", "postroom_")
            ]
        return (*sources, init_settings)

    @property
    def ledger(self) -> str:
        """The ledger's SQLAlchemy URL."""
        return self.ledger_url or f"sqlite:///{self.state_dir / 'ledger.db'}"

    @property
    def broker(self) -> str:
        """The broker's URL."""
        return self.broker_url or "redis://127.0.0.1:6379/0"

    @property
    def calibration_file(self) -> Path:
        """Where calibrations of the model's confidence are kept."""
        return Path(self.model.calibration) if self.model.calibration else self.state_dir / "calibration.json"

    @property
    def blobs_dir(self) -> Path:
        """Folder of the blob store."""
        return self.state_dir / "blobs"


def file_of(path: Path | None = None) -> Path | None:
    """The file that is read when `path` is `--config`; None when there is none."""
    if chosen := path or os.environ.get("POSTROOM_CONFIG"):
        return Path(chosen)
    return SYSTEM_FILE if SYSTEM_FILE.is_file() else None


def load(path: Path | None = None) -> Settings:
    """Read the settings.

    `path` is `--config`; without it $POSTROOM_CONFIG, then /etc/postroom/postroom.toml when it is there.
    Raises ConfigError with one problem a line.
    """
    chosen = file_of(path)
    text, values = _read(chosen) if chosen else ("", {})
    file = str(chosen or "environment")
    try:
        settings = Settings(_secrets_dir=_system_credentials(chosen), **values)
    except ValidationError as error:
        raise ConfigError(problems_of(error, file, text, Settings)) from None
    if problems := _unknown_endpoints(settings, file, text):
        raise ConfigError(problems)
    return settings


def _system_credentials(chosen: Path | None) -> Path | None:
    """The folder of credentials that belongs to the system's configuration, for those who may read it."""
    readable = chosen == SYSTEM_FILE and os.access(SYSTEM_CREDENTIALS, os.R_OK | os.X_OK)
    return SYSTEM_CREDENTIALS if readable else None


def _unknown_endpoints(settings: Settings, file: str, text: str) -> list[Problem]:
    """What names an endpoint that is not there. Routes are looked at where they are read."""
    name = settings.alerts.webhook
    if not name or name in settings.endpoint:
        return []
    known = ", ".join(sorted(settings.endpoint)) or "none yet"
    line = line_of(text, ("alerts", "webhook"))
    key = "alerts.webhook" if line else "alerts.webhook (POSTROOM_ALERTS__WEBHOOK)"
    what = f"endpoint {name!r} is not configured"
    return [Problem(file, line, key, what, f"add [endpoint.{name}] or use one of: {known}")]


def _read(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            [Problem(str(path), None, "", f"cannot be read: {error.strerror}", "name an existing file with --config")]
        ) from None
    except UnicodeDecodeError:
        raise ConfigError([Problem(str(path), None, "", "is not UTF-8", "save it as UTF-8")]) from None
    try:
        return text, tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem.of_toml(str(path), error)]) from None
