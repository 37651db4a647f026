"""`postroom eval SET`: how often labels and values are right on labelled files, and whether the confidence knows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from daemon.console import AsJson, as_owner, ledger_of, settings_of

commands = typer.Typer()
Half = Literal["both", "tuning", "unseen"]


@commands.command(name="eval", rich_help_panel="Questions")
def evaluate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(metavar="SET", help="Folder with NAME.EXT and NAME.expected.toml.")],
    models: Annotated[str, typer.Option(help="Models to compare, with commas.  [default: [model] name]")] = "",
    half: Annotated[Half, typer.Option(help="Half of the set: by the hash of the names.")] = "both",
    only: Annotated[str, typer.Option(help="Only cases with this in their names.")] = "",
    plain: Annotated[
        bool, typer.Option("--plain", help="Beside it: one sampled JSON call that rates its own confidence.")
    ] = False,
    against: Annotated[
        Path | None, typer.Option(help="A run's .jsonl to compare with.  [default: the last whole run of these cases]")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="The HTML report.  [default: beside the run]")] = None,
    calibrated: Annotated[
        bool, typer.Option("--calibrate", help="Afterwards: fit the confidence to these answers, for later jobs.")
    ] = False,
    show_unseen: Annotated[
        bool, typer.Option("--show-unseen", help="Show what is wrong in the unseen half, too; it is then seen.")
    ] = False,
    anew: Annotated[bool, typer.Option("--new", help="Begin anew instead of going on with an unfinished run.")] = False,
    as_json: AsJson = False,
) -> None:
    """Judge labelled files and print what is right: labels, values, confidence, time. Nothing is stored as a job or sent.

    A run that was stopped goes on where it was. Exit status 1: some case had no answer. 130: stopped by Ctrl-C.
    """
    from daemon.evaluation.session import Wishes
    from daemon.evaluation.session import evaluate as evaluated

    settings = settings_of(context, "eval")
    wish = Wishes(
        folder=folder,
        models=[name.strip() for name in models.split(",") if name.strip()],
        half=half,
        only=only,
        plain=plain,
        against=against,
        report=report,
        calibrate=calibrated,
        show_unseen=show_unseen,
        anew=anew,
        as_json=as_json,
    )
    with as_owner(settings):
        raise typer.Exit(evaluated(settings, wish))


@commands.command(rich_help_panel="Questions")
def backtest(
    context: typer.Context,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="What came since: 2026-03-02, 2026-03-02T14:30Z, 30d or 12h ago.")
    ] = "30d",
    source: Annotated[str, typer.Option(help="Of these only what came this way, such as smtp or webhook:shop.")] = "",
    label: Annotated[str, typer.Option(help="Of these only those that had this label.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="Jobs at most, the newest; 0: all.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Judge stored jobs anew, with today's routes, prompts and model, and show what would change.

    Nothing is sent, and nothing is written to the jobs. The model's own sentences in replies are left out.
    """
    from daemon.evaluation import backtesting

    settings = settings_of(context, "backtest")
    with ledger_of(context) as ledger:
        chosen = backtesting.Chosen(since=since, source=source, label=label, limit=limit)
        raise typer.Exit(backtesting.run(settings, ledger, chosen, as_json=as_json))
