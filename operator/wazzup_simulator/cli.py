"""The command wazzup-simulator."""

import asyncio
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click
from click.core import ParameterSource

from wazzup_simulator.act import DEFAULT_PORT, act
from wazzup_simulator.control import new_channel
from wazzup_simulator.refusals import RefusalError
from wazzup_simulator.server import serve
from wazzup_simulator.state import NewChannel, Service


class _ChannelType(click.ParamType[NewChannel]):
    name = "FIELD=VALUE,..."

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NewChannel:
        try:
            return new_channel(dict(pair.split("=", 1) for pair in value.split(",")))
        except ValueError:
            self.fail(f"Write it like phone=447700900102,state=active, not {value}.", param, ctx)
        except RefusalError as refused:
            self.fail(str(refused), param, ctx)


@click.group(name="wazzup-simulator", invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="The port to listen on; 0 takes a free one.",
)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    help="A key that is let in; each one opens an account of its own.",
)
@click.option(
    "--channel",
    "channels",
    type=_ChannelType(),
    multiple=True,
    help="A channel that the first account has from the start, for example"
    " phone=447700900102,name=Support; further fields are transport and state.",
)
@click.pass_context
def command(
    context: click.Context,
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    channels: tuple[NewChannel, ...],
) -> None:
    """Stand in for Wazzup's public API v3 until it is stopped.

    What it holds is in its memory. "wazzup-simulator act" changes that of a running one.
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return
    service = _service(api_keys, channels)
    try:
        asyncio.run(serve(service, host, port, click.echo))
    except OSError as error:
        raise click.ClickException(f"Cannot listen on {host} port {port}: {error}.") from error


def _refuse_options(context: click.Context) -> None:
    """Refuse options before a subcommand: they are for a simulator that starts."""
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} is for starting a simulator: leave it out, or name the"
                f" running one with {context.invoked_subcommand} --url."
            )


command.add_command(act)


def _service(api_keys: Sequence[str], channels: Sequence[NewChannel]) -> Service:
    service = Service()
    for key in api_keys:
        with _refused_as_bad("--api-key"):
            service.add_account(keys=[key])
    if channels and not api_keys:
        raise click.UsageError("--channel needs an --api-key, which opens the channel's account.")
    if channels:
        with _refused_as_bad("--channel"):
            service.add_channels(next(iter(service.accounts)), channels)
    return service


@contextmanager
def _refused_as_bad(option: str) -> Iterator[None]:
    try:
        yield
    except RefusalError as refused:
        raise click.BadParameter(str(refused), param_hint=option) from refused


def main() -> None:
    """Run the command; what is wrong with an option is one sentence, not a page of usage."""
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"wazzup-simulator: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
