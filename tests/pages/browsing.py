"""A browser without scripts: keeps cookies and sends forms, over real HTTP."""

from __future__ import annotations

import re
from typing import Any

import httpx

from config.passwords import hashed
from daemon.web.pages.ask import PREFIX

PASSWORD = "correct horse"
HASH = hashed(PASSWORD)
USERS = {"users": {"anna": HASH, "ben": HASH, "vera": HASH}, "reviewers": ["ben"], "admins": ["anna"]}


class Browser:
    """Keeps cookies and sends forms as a browser does."""

    def __init__(self, url: str, **headers: str) -> None:
        self.http = httpx.Client(base_url=url, trust_env=False, timeout=30, headers=headers)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(PREFIX + path, **options)

    def token(self, path: str) -> str:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', self.get(path).text)
        assert found
        return found[1]

    def post(self, path: str, page: str, headers: dict[str, str] | None = None, **form: str) -> httpx.Response:
        return self.http.post(PREFIX + path, data={"csrf": self.token(page), **form}, headers=headers)

    def log_in(self, name: str, password: str = PASSWORD, **form: str) -> httpx.Response:
        return self.post("/login", "/login", name=name, password=password, **form)
