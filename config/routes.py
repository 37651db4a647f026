"""Routes: what is done with which message. One file a route, read in order of name, first match wins."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import jinja2
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from config.documents import DocumentsSpec
from config.errors import ConfigError, Problem, line_of, problems_of
from config.events import EventSpec, JsonPath
from config.inbound import Section
from config.models import TaskModels
from config.sums import problem


def _regex(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(
            f"{value!r} is no regular expression: {error}; test it with python3 -m re or escape . ( [ with \\"
        ) from None
    return value


Regex = Annotated[str, AfterValidator(_regex)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]


TrustName = Literal["dmarc", "dkim", "allowed", "known"]


def one_or_more(value: Any) -> Any:
    """A word of TOML as a list of one."""
    return (value,) if isinstance(value, str) and value else value or ()


class Match(Section):
    """Which messages a route is for. All that is given has to hold; nothing given matches everything."""

    source: str = Field("", description="Way in, as a shell pattern: `smtp`, `imap:*`, `webhook:shop`.")
    sender: str = Field("", description="Sender's address, as a shell pattern: `*@supplier.example`.")
    recipient: str = Field(
        "",
        description="One of the recipients, as a shell pattern: `inbox+invoices@*` sees the detail after the +, and "
        "`inbox@*` matches whatever the detail is.",
    )
    subject: Regex = Field("", description="Regular expression found in the subject, upper and lower case alike.")
    file_type: str = Field(
        "", description="Content type of one of the documents, as a shell pattern: `application/pdf`."
    )
    trust: Annotated[tuple[TrustName, ...], BeforeValidator(one_or_more)] = Field(
        (),
        description="What has to be known about a mail's sender, one word or several of which each has to hold: `dmarc` "
        "(the server named in authserv_id says pass), `dkim` (signed by the domain of From), `allowed` (on the list in "
        "[trust] allow), `known` (an earlier job of that sender is done).",
    )
    event: dict[JsonPath, Regex] = Field(
        default_factory=dict, description="JSON path of an event and a regular expression its value matches."
    )


class FieldSpec(Section):
    """One value the model reads from a document."""

    type: Literal["text", "date", "decimal", "integer", "currency", "email", "phone", "iban", "vat_id", "boolean"] = (
        Field("text", description="How the value is normalised and checked.")
    )
    description: str = Field(description="What it is, in words for the model.")
    required: bool = Field(False, description="Without it the job rests in review.")
    pattern: Regex = Field("", description="Regular expression that the whole value has to match.")
    choices: tuple[str, ...] = Field((), description="The only values allowed.")
    region: str = Field(
        "",
        pattern="^([A-Z]{2})?$",
        description="For phone: country, such as `DE`, of numbers written without a country code; empty: they are refused.",
    )
    xml: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = Field(
        (),
        description="Where the value stands in an electronic invoice or other XML: what the job's page calls its line, "
        "such as `Total with tax` or `LegalMonetaryTotal / PayableAmount`; of several the first that is there. "
        "It outranks what the model reads.",
    )
    not_beside: tuple[str, ...] = Field(
        (), description="Captions of other values, such as Subtotal for a total: a value read beside one is refused."
    )
    beside: tuple[str, ...] = Field(
        (), description="Captions of this value, such as Net à payer: beside one, `not_beside` does not refuse it."
    )


class Label(Section):
    """One kind of document."""

    says: str = Field(min_length=8, description="One sentence that tells the kind, for the model.")
    example: str = Field("", description="A short example of such a text, for the model.")
    template: str = Field("", description="Reply template of this label; empty: the route's.")
    fields: dict[Name, FieldSpec] = Field(default_factory=dict, description="What is read from it.")
    checks: tuple[str, ...] = Field(
        (),
        description='Sums that its numbers have to keep, such as "net + tax = total"; one that does not hold sends the '
        "job to review.",
    )

    @field_validator("checks")
    @classmethod
    def _reckonable(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        types = {name: spec.type for name, spec in info.data.get("fields", {}).items()}
        if wrong := [found for text in value if (found := problem(text, types))]:
            raise ValueError(wrong[0])
        return value


class ReplySpec(Section):
    """Whether and how a mail is answered."""

    template: str = Field("", description="Folder or stem in templates/reply; empty: no reply.")
    when: tuple[str, ...] = Field((), description="Labels that are answered; empty: all.")
    never: tuple[str, ...] = Field((), description="Labels that are not answered.")
    free_text: bool = Field(True, description="Let the model write a sentence or two of its own.")
    instructions: str = Field("", description="What those sentences should say, for the model.")
    sender: str = Field("", description="From of the reply; empty: [smtp_out] sender.")
    allow: tuple[str, ...] = Field(
        (),
        description="Hosts and mail addresses that may stand in a reply, as shell patterns: `*.team.example`, "
        "`help@team.example`. Others that a document or the model brings in are taken out, or send the job to review; "
        "whom the reply goes to and what was read as a field of the type `email` may always be named.",
    )


class DeliverSpec(Section):
    """One place the result goes to: exactly one of `smtp` and `webhook`."""

    smtp: str = Field(
        "", description="`sender` (the reply, in its thread) or a fixed address (gets a copy of the result)."
    )
    webhook: str = Field("", description="Name of an [endpoint.NAME] in postroom.toml, which holds URL and secrets.")
    when: tuple[str, ...] = Field((), description="Labels it is for; empty: all.")

    @model_validator(mode="after")
    def _one_of(self) -> DeliverSpec:
        if bool(self.smtp) == bool(self.webhook):
            raise ValueError('needs exactly one of `smtp` and `webhook`; write smtp = "sender" or webhook = "NAME"')
        return self


class RouteModel(TaskModels):
    """Models and their options of one route; what is empty is as in [model] of postroom.toml."""

    min_confidence: float | None = Field(None, ge=0, le=1, description="Below it the job rests in review.")
    document_time: float | None = Field(
        None,
        ge=0,
        description="Seconds after which no further part of a long document is shown to the model; 0: all are.",
    )
    injections: Literal["review", "note"] = Field(
        "review",
        description="What becomes of a message with text that reads like orders to a model: it rests in review, or only a "
        "note tells it.",
    )


class Route(Section):
    """What is done with the messages that it matches."""

    name: Name = Field(
        description="Name in logs and in `postroom jobs`; the file's stem without its number when left out."
    )
    match: Match = Match()
    documents: DocumentsSpec = DocumentsSpec()
    event: EventSpec | None = None
    labels: dict[Name, Label] = Field(default_factory=dict, description="The kinds the model chooses from.")
    reply: ReplySpec = ReplySpec()
    deliver: tuple[DeliverSpec, ...] = Field(
        (), description="Where results go; empty with a reply template: to the sender."
    )
    model: RouteModel = RouteModel()

    @model_validator(mode="after")
    def _known_labels(self) -> Route:
        named = {*self.reply.when, *self.reply.never, *(label for spec in self.deliver for label in spec.when)}
        if unknown := sorted(named - set(self.labels)):
            known = ", ".join(sorted(self.labels)) or "none"
            raise ValueError(
                f"label {unknown[0]!r} is used but not defined; define [labels.{unknown[0]}] or use one of: {known}"
            )
        return self

    def template_for(self, label: str) -> str:
        """Name of the reply template for `label`; empty when this label is not answered."""
        if label in self.reply.never or (self.reply.when and label not in self.reply.when):
            return ""
        spec = self.labels.get(label)
        return (spec.template if spec else "") or self.reply.template


def load_routes(
    folder: Path, templates: Path, endpoints: frozenset[str], passwords: frozenset[str] = frozenset()
) -> tuple[Route, ...]:
    """Read every route of `folder`.

    `endpoints` are the names that `deliver.webhook` may use, `passwords` those that `documents.passwords` may. Raises
    ConfigError with all problems of all files.
    """
    if not folder.is_dir():
        raise ConfigError(
            [Problem(str(folder), None, "routes_dir", "is no folder", "create it with one .toml file per route")]
        )
    problems: list[Problem] = []
    routes: list[Route] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            route = read_route(path, templates, endpoints, passwords)
        except ConfigError as error:
            problems += error.problems
        else:
            routes.append(route)
    if not problems and (not routes or routes[-1].match != Match()):
        last = str(folder / "90-rest.toml")
        problems.append(Problem(last, None, "", "no route catches the rest", "add a last route file without [match]"))
    if problems:
        raise ConfigError(problems)
    return tuple(routes)


def read_route(
    path: Path, templates: Path, endpoints: frozenset[str], passwords: frozenset[str] = frozenset()
) -> Route:
    """Read one route file. Raises ConfigError with all its problems."""
    try:
        text = path.read_text("utf-8")
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError([Problem.of_toml(str(path), error)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            [Problem(str(path), None, "", f"cannot be read: {error}", "make it a readable UTF-8 file")]
        ) from None
    values.setdefault("name", re.sub(r"^\d+-", "", path.stem))
    try:
        route = Route(**values)
    except ValidationError as error:
        raise ConfigError(problems_of(error, str(path), text, Route)) from None
    if problems := [
        *_template_problems(route, path, text, templates),
        *_event_problems(route, path, text),
        *_endpoint_problems(route, path, text, endpoints),
        *_password_problems(route, path, text, passwords),
    ]:
        raise ConfigError(problems)
    return route


def _template_problems(route: Route, path: Path, text: str, templates: Path) -> list[Problem]:
    used: list[tuple[Path, tuple[str, ...], str]] = [(templates / "reply", ("reply", "template"), route.reply.template)]
    used += [(templates / "reply", ("labels", name, "template"), one.template) for name, one in route.labels.items()]
    if route.event:
        used.append((templates / "event", ("event", "template"), route.event.template))
    problems = []
    for folder, key, name in used:
        if not name:
            continue
        file = folder / f"{name}.txt.j2"
        line = line_of(text, key)
        if not file.is_file():
            there = ", ".join(sorted(p.name.removesuffix(".txt.j2") for p in folder.glob("*.txt.j2"))) or "none"
            problems.append(
                Problem(
                    str(path),
                    line,
                    ".".join(key),
                    f"template {name!r} is missing ({file})",
                    f"create it or use one of: {there}",
                )
            )
            continue
        problems += [
            found for part in (file, folder / f"{name}.html.j2") if part.is_file() for found in _syntax_problems(part)
        ]
    return problems


def _syntax_problems(file: Path) -> list[Problem]:
    try:
        jinja2.Environment(autoescape=True).parse(file.read_text("utf-8"), filename=str(file))
    except jinja2.TemplateSyntaxError as error:
        return [
            Problem(str(file), error.lineno, "", f"template error: {error.message}", "mend the Jinja2 syntax there")
        ]
    return []


def _event_problems(route: Route, path: Path, text: str) -> list[Problem]:
    if not (route.event and route.match.file_type):
        return []
    key = ("match", "file_type")
    what = "cannot choose a route with [event], whose documents are made after the choice"
    instead = 'write event = { "$.type" = "..." } under [match]'
    return [Problem(str(path), line_of(text, key), ".".join(key), what, instead)]


def _endpoint_problems(route: Route, path: Path, text: str, endpoints: frozenset[str]) -> list[Problem]:
    return [
        Problem(
            str(path),
            line_of(text, ("deliver", index, "webhook")),
            f"deliver.{index}.webhook",
            f"endpoint {spec.webhook!r} is not configured",
            f"add [endpoint.{spec.webhook}] with url and secrets to postroom.toml"
            + (f" or use one of: {', '.join(sorted(endpoints))}" if endpoints else ""),
        )
        for index, spec in enumerate(route.deliver)
        if spec.webhook and spec.webhook not in endpoints
    ]


def _password_problems(route: Route, path: Path, text: str, lists: frozenset[str]) -> list[Problem]:
    key = ("documents", "passwords")
    known = f" or use one of: {', '.join(sorted(lists))}" if lists else ""
    return [
        Problem(
            str(path),
            line_of(text, key),
            ".".join(key),
            f"there is no list of passwords {name!r}",
            f"add [passwords.{name}] with secrets to postroom.toml{known}",
        )
        for name in route.documents.passwords
        if name not in lists
    ]
