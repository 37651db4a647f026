"""`postroom hooks`: try webhooks out, sending and receiving."""

# ruff: noqa: PLC0415  # as in daemon/cli.py: each command imports only what it needs, `postroom jobs` starts quickly

from __future__ import annotations

import contextlib
import time
from typing import Annotated

import typer
from rich.markup import escape

from config.outbound import WebhookEndpoint
from config.settings import Settings
from daemon.console import console, settings_of
from tasks.errors import Permanent, PostroomError
from tasks.ids import new_job_id
from tasks.models import Delivery

commands = typer.Typer(
    name="hooks",
    help="Try webhooks out: send a test event to an endpoint, or receive and verify what is sent.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
TEST_HEADER = "X-Postroom-Test"
"""Tells a receiver that nobody sent this invoice."""


@commands.command(name="test")
def send_sample(
    context: typer.Context,
    endpoint: Annotated[str, typer.Argument(metavar="ENDPOINT", help="Name of an [endpoint.NAME] section.")],
    body: Annotated[bool, typer.Option("--body", help="Print the body that is sent, too.")] = False,
) -> None:
    """Send a signed sample event to an endpoint and show the exchange.

    One attempt, as a worker would make it: the same signature, checks and time limits. Exit status 1 when it fails.
    """
    from daemon.hook_receiver import MASK, SECRET_HEADERS, shown
    from tasks.transports import webhook

    settings = settings_of(context)
    config = _endpoint(settings, endpoint)
    delivery = sample(settings, endpoint, config)
    masked = SECRET_HEADERS | {name.lower() for name in config.headers}
    out = console()
    out.print(f"[bold]POST {escape(config.url)}[/]")
    for name, value in webhook.request_headers(delivery, config, int(time.time())).items():
        out.print(f"  {name}: {MASK if name.lower() in masked else escape(value)}")
    if body:
        out.print(f"\n{escape(shown(delivery.body))}\n")
    started = time.perf_counter()
    try:
        outcome = webhook.send(delivery, settings)
    except PostroomError as error:
        out.print(f"[red]failed[/]  {escape(shown(error.reason.encode()))}  ({time.perf_counter() - started:.3f} s)")
        raise typer.Exit(1) from None
    out.print(f"[green]sent[/]  {outcome.detail}  ({time.perf_counter() - started:.3f} s)")
    if outcome.response:
        out.print(f"\n{escape(shown(outcome.response.encode()))}")


@commands.command()
def listen(
    context: typer.Context,
    endpoint: Annotated[
        str, typer.Argument(metavar="ENDPOINT", help="Verify with the secrets of this [endpoint.NAME] section.")
    ] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on loopback; 0 lets the system choose.")] = 0,
    count: Annotated[int, typer.Option(min=0, help="Stop after so many requests; 0: on Ctrl-C.")] = 0,
) -> None:
    """Receive webhooks on loopback, print each and tell whether its signature fits.

    Let [endpoint.NAME] url point here (with allow_private = true), or forward a public address to it.
    """
    from daemon.hook_receiver import HOST, Receiver

    config = _endpoint(settings_of(context), endpoint) if endpoint else None
    try:
        receiver = Receiver(port, config, lambda text: print(text, flush=True), count)
    except OSError as error:
        raise Permanent(f"cannot listen on {HOST}:{port}: {error.strerror}; take another --port") from None
    with receiver, contextlib.suppress(KeyboardInterrupt):
        print(f"listening on {receiver.url}", flush=True)
        receiver.serve_forever(poll_interval=0.1)


def sample(settings: Settings, name: str, config: WebhookEndpoint) -> Delivery:
    """The example of the documented payload, marked as a test, as the endpoint would get it. Raises Permanent."""
    from tasks.payload import CONTENT_TYPE, EXAMPLE, body_for

    identity = new_job_id()
    job = EXAMPLE.data.job.model_copy(update={"id": identity, "url": "", "source": "test", "key": f"test-{identity}"})
    payload = EXAMPLE.model_copy(update={"data": EXAMPLE.data.model_copy(update={"job": job})})
    return Delivery(
        ordinal=0,
        transport="webhook",
        target=name,
        key=f"test-{identity}",
        content_type=CONTENT_TYPE,
        body=body_for(config, payload, settings.templates_dir),
        headers={TEST_HEADER: "1"},
    )


def _endpoint(settings: Settings, name: str) -> WebhookEndpoint:
    found = settings.endpoint.get(name)
    if found is None:
        known = f"configured: {', '.join(settings.endpoint)}" if settings.endpoint else "none is configured"
        raise Permanent(f"no endpoint {name!r}; {known}; add [endpoint.{name}]")
    return found
