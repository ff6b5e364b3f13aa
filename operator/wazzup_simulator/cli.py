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
            self.fail(f"Use the form phone=12025550102,state=active, not {value}.", param, ctx)
        except RefusalError as refused:
            self.fail(str(refused), param, ctx)


@click.group(name="wazzup-simulator", invoke_without_command=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=DEFAULT_PORT,
    show_default=True,
    help="Port to listen on; 0 picks a free one.",
)
@click.option(
    "--api-key",
    "api_keys",
    multiple=True,
    help="A valid API key; each key gets its own account.",
)
@click.option(
    "--channel",
    "channels",
    type=_ChannelType(),
    multiple=True,
    help="A channel to create in the first account, for example"
    " phone=12025550102,name=Support; other fields are transport and state.",
)
@click.pass_context
def command(
    context: click.Context,
    host: str,
    port: int,
    api_keys: tuple[str, ...],
    channels: tuple[NewChannel, ...],
) -> None:
    """Simulate Wazzup's public API v3 until stopped.

    All state is in memory. "wazzup-simulator act" changes it while the simulator runs.
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
    """Refuse options before a subcommand: they apply only when starting a simulator."""
    for parameter in context.command.params:
        if context.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE:
            raise click.UsageError(
                f"{parameter.opts[0]} applies only when starting a simulator. Leave it out, or use"
                f" {context.invoked_subcommand} --url for the running one."
            )


command.add_command(act)


def _service(api_keys: Sequence[str], channels: Sequence[NewChannel]) -> Service:
    service = Service()
    for key in api_keys:
        with _refusal_as_bad_parameter("--api-key"):
            service.add_account(keys=[key])
    if channels and not api_keys:
        raise click.UsageError(
            "--channel needs an --api-key: the channel is created in that key's account."
        )
    if channels:
        with _refusal_as_bad_parameter("--channel"):
            service.add_channels(next(iter(service.accounts)), channels)
    return service


@contextmanager
def _refusal_as_bad_parameter(option: str) -> Iterator[None]:
    try:
        yield
    except RefusalError as refused:
        raise click.BadParameter(str(refused), param_hint=option) from refused


def main() -> None:
    """Run the command. Errors are printed as one line, without usage or traceback."""
    try:
        command.main(standalone_mode=False)
    except click.ClickException as error:
        click.echo(f"wazzup-simulator: {error.format_message()}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(130)
