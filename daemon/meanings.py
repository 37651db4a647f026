"""`postroom similar JOB`, and `postroom jobs --like TEXT`: what is near by meaning, nearest first."""

from __future__ import annotations

from typing import Annotated

import typer

from config.settings import Settings
from daemon import show
from daemon.console import AsJson, JobArgument, console, ledger_of, print_json, settings_of
from tasks.errors import Permanent
from tasks.ledger import Ledger, Near
from tasks.story import summary

commands = typer.Typer(rich_markup_mode=None)


@commands.command(rich_help_panel="Questions")
def similar(
    context: typer.Context,
    job: JobArgument,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Lines at most.")] = 10,
    as_json: AsJson = False,
) -> None:
    """List the jobs whose documents mean most nearly what this one's do; needs [model] embed."""
    from tasks.meaning import similar as nearest  # noqa: PLC0415  # slow to import, and most commands need none

    model = embedder(settings_of(context))
    with ledger_of(context) as ledger:
        tell(ledger, nearest(ledger, ledger.jobs.find(job).id, model, limit), as_json=as_json)


def like(context: typer.Context, text: str, limit: int, *, as_json: bool) -> None:
    """List the jobs whose documents mean most nearly what `text` says. Raises Permanent, Unavailable, Transient."""
    from tasks.model import Models  # noqa: PLC0415  # as above

    settings = settings_of(context)
    model = embedder(settings)
    with ledger_of(context) as ledger:
        if not ledger.vectors.count(model):
            raise Permanent(f"no document has a vector of {model} yet; they are made while model workers run")
        tell(ledger, ledger.vectors.near(Models(settings.model).embed(text), model, limit), as_json=as_json)


def embedder(settings: Settings) -> str:
    """The model that tells what documents mean. Raises Permanent when none is configured."""
    if not settings.model.embed:
        raise Permanent('no model for this is configured; set [model] embed = "nomic-embed-text", for example')
    return settings.model.embed


def tell(ledger: Ledger, found: list[Near], *, as_json: bool) -> None:
    """One job a line, as `postroom jobs` lists them, with the cosine before each."""
    jobs = ledger.search.jobs([one.job_id for one in found])
    there = [(one, jobs[one.job_id]) for one in found if one.job_id in jobs]
    if as_json:
        print_json([{"cosine": round(one.cosine, 4), **summary(job)} for one, job in there])
    else:
        show.near_table(console(), [(one.cosine, job) for one, job in there])
