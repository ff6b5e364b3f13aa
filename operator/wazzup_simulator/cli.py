"""The command wazzup-simulator."""

import asyncio
import sys

import click

from wazzup_simulator.refusals import RefusalError
from wazzup_simulator.server import serve
from wazzup_simulator.state import Service


@click.command(name="wazzup-simulator")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    help="A key that is let in; each one opens an account of its own.",
)
def command(host: str, port: int, api_keys: tuple[str, ...]) -> None:
    """Stand in for Wazzup's public API v3."""
    service = Service()
    for key in api_keys:
        try:
            service.add_account(keys=[key])
        except RefusalError as refused:
            raise click.BadParameter(str(refused), param_hint="--api-key") from refused
    try:
        asyncio.run(serve(service, host, port, click.echo))
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host} port {port}: {error}.") from error


def main() -> None:
    """Run the command; what is wrong with an option is one sentence, not a page of usage."""
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"wazzup-simulator: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
