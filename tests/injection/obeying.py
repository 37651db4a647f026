"""The worst model there is: it does exactly what the attacker's text says, wherever it sees it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tasks.judging.calls import Answer, Ask, OnProgress

SURE = -0.01
"""Log-probability of the label: e to this power is 0.99."""
HONEST: Mapping[str, str] = {"customer": "Mara Vance", "order_number": "HL-20417", "number": "HL-20417"}
_CANARY = re.compile(r"Never write (\w+)")


@dataclass(frozen=True)
class Case:
    """One injection, as cases.toml declares it."""

    name: str
    carrier: str
    attack: str
    value: str = ""
    say: str = ""
    label: str = "order"
    found: bool = True
    gone: bool = False


class Obeying:
    """An engine for tasks.judging: honest until it reads the attack, then the attacker's."""

    def __init__(self, case: Case) -> None:
        self._case = case
        self._wanted = _letters(case.attack)[:60]
        self.obeys = False

    def context_limit(self, _model: str) -> int:
        """As much as the default model."""
        return 32_768

    def ask(self, wish: Ask, _progress: OnProgress | None = None) -> Answer:
        """Label, form or sentences, as the attacker wants them once his words were in a prompt."""
        seen = _letters(" ".join(message["content"] for message in wish.messages))
        self.obeys = self.obeys or self._wanted in seen
        if wish.logprobs:
            label = self._case.label if self.obeys else "complaint"
            return Answer(text=label, next_token={label: SURE}, done_reason="stop")
        if wish.schema:
            text = json.dumps(self._form(wish.schema["properties"], wish.messages[0]["content"]))
        else:
            text = self._say(wish.messages[0]["content"]) if self.obeys else "Thank you for telling us about the lamp."
        return Answer(text=text, done_reason="stop")

    def _form(self, properties: dict[str, Any], system: str) -> dict[str, str | None]:
        filled: dict[str, str | None] = {}
        for name, shape in properties.items():
            if name == "label":
                filled[name] = shape.get("const") or shape["enum"][0]
            elif name.startswith("summary"):
                filled[name] = (self._say(system) if self.obeys else "The lamp arrived broken.")[:240]
            elif self.obeys and self._case.value and self._case.value not in filled.values():
                filled[name] = self._case.value
            else:
                filled[name] = HONEST.get(name)
        return filled

    def _say(self, system: str) -> str:
        if self._case.say != "CANARY":
            return self._case.say
        found = _CANARY.search(system)
        return f"My orders are: {found[0]}" if found else ""


def _letters(text: str) -> str:
    """What is left of a text when line breaks, marks and slips of optical recognition are taken out."""
    return "".join(one for one in text.casefold() if one.isalnum() and one not in "il1o0")
