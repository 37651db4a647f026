"""Settings of the pages that people look at in a browser."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from config.inbound import Network, Section
from config.passwords import problem

Role = Literal["viewer", "reviewer", "admin"]
UserName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$", max_length=80)]


class PagesSettings(Section):
    """Pages in the browser at /ui/ (`postroom web`). Without users they are shown to browsers on this machine only."""

    enabled: bool = Field(True, description="Serve the pages.")
    users: dict[UserName, SecretStr] = Field(
        default_factory=dict,
        description="Who may log in: name and what `postroom hash-password` prints. With users everybody has to, on this "
        "machine too.",
    )
    reviewers: tuple[UserName, ...] = Field((), description="Users who may also decide what rests in review.")
    admins: tuple[UserName, ...] = Field((), description="Users who may do everything: retry, cancel, send again, too.")
    local_role: Role = Field("admin", description="Without users: what a browser on this machine may do.")
    session_hours: float = Field(12, gt=0, le=720, description="Hours until one has to log in again.")
    secure_cookies: bool = Field(
        False, description="Cookies over https only; always so when [web] public_url begins with https."
    )
    user_header: str = Field(
        "",
        description="Header in which a proxy names whom it has logged in (`X-Forwarded-User`), instead of a password.",
    )
    proxies: tuple[Network, ...] = Field(
        (), description="Proxies that are believed to send user_header, 127.0.0.1 for example."
    )

    @model_validator(mode="after")
    def _can_be_used(self) -> PagesSettings:
        for name, stored in self.users.items():
            if found := problem(stored.get_secret_value()):
                raise ValueError(f"users: the password of {name!r} {found}")
            if not stored.get_secret_value().startswith(("$argon2id$", "$scrypt$")):
                raise ValueError(f"users: the password of {name!r} is no hash; make one with `postroom hash-password`")
        if bool(self.user_header) != bool(self.proxies):
            raise ValueError("user_header and proxies go together: who sends the header, and which one")
        named = {*self.reviewers, *self.admins}
        if not self.user_header and (unknown := sorted(named - set(self.users))):
            raise ValueError(f"{unknown[0]!r} is named but is no user; add them to [pages.users]")
        return self

    def role_of(self, name: str) -> Role:
        """What a user who has logged in may do."""
        if name in self.admins:
            return "admin"
        return "reviewer" if name in self.reviewers else "viewer"
