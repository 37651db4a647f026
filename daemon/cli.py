"""`postroom`: one subcommand per process, one per question that an admin asks."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from config.errors import ConfigError
from config.settings import file_of
from daemon import (
    backup,
    deadletters,
    deliveries,
    digest,
    endpoints,
    hooks,
    installation,
    mailboxes,
    meanings,
    retention,
    show,
    tokens,
    trace,
)
from daemon.console import AsJson, JobArgument, as_owner, config_of, console, ledger_of, print_json, settings_of
from daemon.evaluation import command as evaluation
from tasks import log
from tasks.configured import routes_of
from tasks.errors import Permanent, PostroomError, WrongSchema
from tasks.ledger import Ledger
from tasks.mailhead import sender_of
from tasks.models import Envelope, Job, Kind, Stage, State
from tasks.story import story, summary

if TYPE_CHECKING:
    from daemon.process import Process

BAD_CONFIG = 2
cli = typer.Typer(
    name="postroom",
    help="Reads what arrives at an inbox or webhook address, works out with a local model what it is, and answers it.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)

cli.add_typer(tokens.commands, rich_help_panel="Actions")
cli.add_typer(deliveries.commands)
cli.add_typer(endpoints.commands, rich_help_panel="Questions")
cli.add_typer(hooks.commands, rich_help_panel="Questions")
cli.add_typer(deadletters.commands)
cli.add_typer(backup.commands)
cli.add_typer(retention.commands)
cli.add_typer(digest.commands)
cli.add_typer(trace.commands)
cli.add_typer(evaluation.commands)
cli.add_typer(meanings.commands)
cli.add_typer(installation.commands, rich_help_panel="Actions")


@cli.callback()
def main_options(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config", "-c", help="Configuration file.  [default: $POSTROOM_CONFIG, then /etc/postroom/postroom.toml]"
        ),
    ] = None,
) -> None:
    """Exit status: 0 well, 1 something failed or cannot be reached, 2 configuration, command line or schema are wrong."""


@cli.command(rich_help_panel="Processes")
def up(context: typer.Context) -> None:
    """Run everything in the foreground; Ctrl-C stops it.

    Where no address is configured, an embedded Valkey and an embedded model server are started. A process that ends
    is started again. Under systemd use the units instead.
    """
    from daemon import up as supervisor

    settings = settings_of(context, "up")
    raise typer.Exit(supervisor.run(settings, config_of(context)))


@cli.command(rich_help_panel="Processes")
def smtp(context: typer.Context) -> None:
    """Take mail by SMTP and LMTP ([smtp])."""
    from daemon.listeners import smtp as listener
    from daemon.process import run_listener

    process = _process(context, "smtp")
    hooks: dict[str, Any] = {"ready": process.ready, "on_reload": process.reloads.on, "alive": process.alive}
    run_listener(process, "smtp", lambda intake, stop: listener.run(process.settings, intake, stop, **hooks))


@mailboxes.commands.callback(invoke_without_command=True)
def imap(context: typer.Context) -> None:
    """Watch mailboxes ([imap.NAME]); or look at one, or take old mail."""
    from daemon.listeners import imap_process
    from daemon.process import run_listener

    if context.invoked_subcommand is None:
        process = _process(context, "imap")
        run_listener(process, "imap", lambda intake, stop: imap_process.serve(process, intake, stop))


cli.add_typer(mailboxes.commands, name="imap", rich_help_panel="Processes")


@cli.command(rich_help_panel="Processes")
def folder(context: typer.Context) -> None:
    """Watch drop folders ([folder.NAME])."""
    from daemon.listeners import folder as listener
    from daemon.process import run_listener

    process = _process(context, "folder")
    run_listener(process, "folder", lambda intake, stop: listener.serve(process, intake, stop))


@cli.command(rich_help_panel="Processes")
def web(context: typer.Context) -> None:
    """Serve webhooks, health and jobs over HTTP ([web])."""
    from daemon.process import run_listener
    from daemon.web import server

    process = _process(context, "web")
    run_listener(process, "web", lambda intake, stop: server.serve(process, intake, stop))


@cli.command(rich_help_panel="Processes")
def worker(
    context: typer.Context,
    queues: Annotated[
        str, typer.Option(help="Queues to serve, with commas: fetch, extract, model, deliver; model.CLASS.")
    ] = "fetch,extract,model,deliver",
    concurrency: Annotated[
        int, typer.Option(min=0, help="Jobs at once; 0: the sum of what [worker] says for the queues.")
    ] = 0,
) -> None:
    """Run the stages of jobs."""
    from daemon import work
    from tasks.app import queues_of

    names = [name.strip() for name in queues.split(",") if name.strip()]
    process = _process(context, "worker", names)
    known = queues_of(process.settings)
    if unknown := sorted(set(names) - set(known)):
        said = f"no queue {unknown[0]!r}; known: {', '.join(known)} ([model.classes] names more)"
        raise typer.BadParameter(said, param_hint="--queues")
    raise typer.Exit(work.run(process, names, concurrency))


@cli.command(rich_help_panel="Processes")
def rescue(context: typer.Context) -> None:
    """Put back to work what is due, lost or stuck. May run in several places at once."""
    from daemon import rescue as rescuing

    rescuing.serve(_process(context, "rescue"))


@cli.command(rich_help_panel="Processes")
def flower(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port on 127.0.0.1.")] = 5555,
) -> None:
    """Show workers, queues and tasks in a browser, for programs on this machine; needs [worker] events = true.

    It is Flower, which is installed with the extra `flower`.
    """
    from daemon import flower as watching

    watching.run(settings_of(context, "flower"), port)


@cli.command(rich_help_panel="Questions")
def check(
    context: typer.Context,
    config_only: Annotated[
        bool, typer.Option("--config-only", help="Configuration, routes and templates; connect to nothing.")
    ] = False,
    cases: Annotated[
        bool, typer.Option("--cases", help="Also judge the golden cases beside the routes (NAME.cases/).")
    ] = False,
) -> None:
    """Look at configuration, routes, templates and every dependency.

    Exit status 0: all is well. 1: something cannot be reached. 2: the configuration is wrong.
    """
    from daemon import checks

    settings = settings_of(context, "check")
    out = console()
    routes = routes_of(settings)
    source = file_of(config_of(context)) or "environment and defaults"
    out.print(f"[green]ok      [/]configuration: {source}", highlight=False, soft_wrap=True)
    names = ", ".join(route.name for route in routes)
    out.print(f"[green]ok      [/]routes: {names} ({settings.routes_dir})", highlight=False, soft_wrap=True)
    found: Iterable[checks.Finding] = checks.of_templates(settings)
    if not config_only:
        found = itertools.chain(checks.never_trusted(settings, routes), checks.dependencies(settings), found)
    if cases:
        from daemon.evaluation import golden

        found = itertools.chain(found, golden.findings(settings))
    with as_owner(settings):  # with the rights of the processes: what they cannot do, root could
        well = show.findings(out, found)
    raise typer.Exit(0 if well else 1)


@cli.command(name="try", rich_help_panel="Questions")
def try_out(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A mail (.eml), an event (.json) or any document.")],
    source: Annotated[str, typer.Option(help="Way in to pretend, for routes: webhook:shop, imap:support.")] = "try",
) -> None:
    """Take a file through the whole trip without storing, fetching or sending anything; print what would be sent."""
    from daemon import tryout

    settings = settings_of(context, "try")
    out = console()
    with out.status("reading") as status:
        made = tryout.run(
            settings, file, source, lambda now: status.update(f"{now.phase}, {now.tokens} tokens, {now.percent} %")
        )
    show.trip(out, made)


@cli.command(rich_help_panel="Questions")
def jobs(
    context: typer.Context,
    state: Annotated[list[State] | None, typer.Option(help="Only jobs in this state; may be repeated.")] = None,
    source: Annotated[str, typer.Option(help="Only this way in, such as smtp or webhook:shop.")] = "",
    label: Annotated[str, typer.Option(help="Only this label.")] = "",
    search: Annotated[str, typer.Option(help="Text in subject, sender or Message-ID.")] = "",
    like: Annotated[
        str, typer.Option(help="Instead: what the documents should mean, nearest first; needs [model] embed.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="Lines at most.")] = 30,
    as_json: AsJson = False,
) -> None:
    """List jobs, newest first."""
    if like:
        if state or source or label or search:
            raise typer.BadParameter("goes with --limit and --json only", param_hint="--like")
        meanings.like(context, like, limit, as_json=as_json)
        return
    with ledger_of(context) as ledger:
        found = ledger.jobs.page(states=state or [], source=source, label=label, search=search, limit=limit)
        if as_json:
            print_json([summary(job) for job in found])
        else:
            show.jobs_table(console(), found, ledger.jobs.counts())


@cli.command(name="show", rich_help_panel="Questions")
def show_job(context: typer.Context, job: JobArgument, as_json: AsJson = False) -> None:
    """Tell one job's whole story: what came, how it was read, judged, answered and delivered, and why it rests."""
    with ledger_of(context) as ledger:
        told = story(ledger, ledger.jobs.find(job))
        if as_json:
            print_json(told)
        else:
            show.story(console(), told)


@cli.command(rich_help_panel="Actions")
def approve(context: typer.Context, job: JobArgument) -> None:
    """Let a job that rests in review go on as it is."""
    with ledger_of(context) as ledger:
        found = ledger.jobs.find(job)
        if found.state is not State.REVIEW:
            raise Permanent(f"{found.id} is {found.state.value}, not in review")
        begin = found.stage or Stage.REPLY
        _moved(ledger.jobs.retry(found.id, begin, why="a person approved it", approve=True), found, "a worker holds it")
        print(f"{found.id} goes on with {begin.value}")


@cli.command(rich_help_panel="Actions")
def cancel(context: typer.Context, job: JobArgument) -> None:
    """Stop a job for good. What was sent stays sent."""
    with ledger_of(context) as ledger:
        found = ledger.jobs.find(job)
        _moved(ledger.jobs.cancel(found.id, why="an admin cancelled it"), found, f"it is {found.state.value}")
        print(f"{found.id} is cancelled")


@cli.command(rich_help_panel="Actions")
def submit(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A mail (.eml), an event (.json) or any document.")],
    sender: Annotated[str, typer.Option(help="Address that the reply goes to.")] = "",
) -> None:
    """Hand in a file as if it had arrived. The same file again is the same job."""
    from daemon import tryout
    from daemon.process import open_intake

    settings = settings_of(context)
    kind, content_type = tryout.kind_of(file)
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Permanent(f"{file} cannot be read: {error.strerror}") from None
    key = f"{file.name}:{tryout.digest(raw)}"
    sender = sender or (sender_of(raw) if kind is Kind.MAIL else "")
    envelope = Envelope(source="cli", kind=kind, key=key, sender=sender, content_type=content_type, name=file.name)
    with as_owner(settings), open_intake(settings) as intake:
        receipt = intake.accept(envelope, raw)
    print(f"{receipt.job_id}{' (it was accepted before)' if receipt.duplicate else ''}")


@cli.command(rich_help_panel="Actions")
def migrate(context: typer.Context) -> None:
    """Bring the ledger's schema to this version. Make a copy of the ledger first."""
    settings = settings_of(context)
    with as_owner(settings):
        ledger = Ledger(settings.ledger)
        ledger.database.migrate()
        print(f"the ledger has schema {ledger.database.revision()}")
        ledger.close()


@cli.command(rich_help_panel="Actions")
def hash_password() -> None:
    """Ask for a password and print what stands for it in [smtp.users]; from a pipe, the first line is taken."""
    from config.passwords import hashed

    given = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if sys.stdin.isatty() else input()
    if not given:
        raise Permanent("an empty password lets everybody in; write one")
    print(hashed(given))


def _process(context: typer.Context, name: str, queues: Sequence[str] = ()) -> Process:
    from config.settings import load
    from daemon.process import Process

    return Process(settings_of(context, name), lambda: load(config_of(context)), queues)


def _moved(changed: bool, job: Job, why_not: str) -> None:
    if not changed:
        raise Permanent(f"{job.id} was not changed: {why_not}")


def main() -> None:
    """The entry point: errors of ours are one line each, tracebacks are for bugs."""
    try:
        cli()
    except ConfigError as error:
        log.cannot_start([str(problem) for problem in error.problems], refused=True)
        raise SystemExit(BAD_CONFIG) from None
    except PostroomError as error:
        # a ledger of another version is as a wrong configuration: to be started again would not help
        refused = isinstance(error, WrongSchema)
        log.cannot_start([f"postroom: {error.reason}"], refused=refused)
        raise SystemExit(BAD_CONFIG if refused else 1) from None


if __name__ == "__main__":
    main()
