"""The command line. Every setting is a flag and an environment variable of the same name."""

import asyncio
import logging
import re
import sys
from collections.abc import Callable
from datetime import timedelta
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from wazzup_operator.observability.logging import LogFormat, configure
from wazzup_operator.resources.account import seconds
from wazzup_operator.settings import Address, ControllerSettings

log = logging.getLogger("wazzup_operator")


class _Duration(click.ParamType[timedelta]):
    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        try:
            return timedelta(seconds=seconds(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        except OverflowError:
            self.fail(f"{value!r} is too long; write one such as 30s, 5m or 1h", param, ctx)


class _Address(click.ParamType[Address]):
    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        host, colon, port = str(value).rpartition(":")
        if not colon or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
            self.fail(f"{value!r} is not an address; write :8080 or 127.0.0.1:8080", param, ctx)
        return Address(host.strip("[]"), int(port))


class _Url(click.ParamType[str]):
    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            parts = urlsplit(str(value))
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            self.fail(
                f"{value!r} is not a URL; write one such as https://api.wazzup24.com", param, ctx
            )
        return str(value)


def _setting(flag: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    name = flag.lstrip("-").replace("-", "_").upper()
    return click.option(
        flag,
        *names,
        envvar=f"WAZZUP_OPERATOR_{name}",
        show_envvar=True,
        show_default=True,
        **attributes,
    )


@click.group()
def cli() -> None:
    """Shows whether the WhatsApp channels declared in Kubernetes work in Wazzup."""


@cli.command()
@_setting(
    "--wazzup-url",
    type=_Url(),
    default="https://api.wazzup24.com",
    help="Where Wazzup's API is. API keys are sent there and nowhere else.",
)
@_setting(
    "--namespace",
    "namespaces",
    multiple=True,
    help="A namespace to watch; repeatable (in the variable: separated by spaces). None: all.",
)
@_setting("--metrics-address", type=_Address(), default=":8080", help="Where /metrics is served.")
@_setting(
    "--health-address",
    type=_Address(),
    default=":8081",
    help="Where /healthz and /readyz are served.",
)
@_setting(
    "--min-poll-interval",
    type=_Duration(),
    default="5s",
    help="A shorter pollInterval of an account is taken for this.",
)
@_setting(
    "--progress-deadline",
    type=_Duration(),
    default="15m",
    help="How long an object that is not Ready is Reconciling before it is Stalled.",
)
@_setting(
    "--stale-after",
    type=_Duration(),
    default="10m",
    help="How long channels keep their last state while Wazzup cannot be read (at least three"
    " pollIntervals).",
)
@_setting(
    "--log-format", type=click.Choice(["text", "json"]), default="text", help="How logs look."
)
@_setting(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least level that is logged.",
)
def controller(log_format: LogFormat, log_level: str, **settings: Any) -> None:
    """Follow the objects, list the accounts in Wazzup, and keep the statuses true."""
    from wazzup_operator.controller.app import run
    from wazzup_operator.kube.errors import ConfigurationMissing

    configure(log_format, log_level)
    try:
        asyncio.run(run(ControllerSettings(**settings)))
    except (ConfigurationMissing, OSError) as error:
        log.error("%s", error)
        sys.exit(1)


@cli.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Write one file for each CRD there instead.",
)
def crds(directory: Path | None) -> None:
    """Print the CustomResourceDefinitions, for kubectl apply --server-side -f -."""
    from wazzup_operator.resources.crd import render

    if directory is None:
        click.echo("---\n".join(render().values()), nl=False)
        return
    for name, text in render().items():
        (directory / name).write_text(text)


@cli.command()
def version() -> None:
    """Print the version."""
    click.echo(version_of("wazzup-operator"))


def main() -> None:
    """Run the command line; a wrong use ends with exit code 2 and one line."""
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "wazzup-operator"
        click.echo(f"{command}: {error.format_message()}", err=True)
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
