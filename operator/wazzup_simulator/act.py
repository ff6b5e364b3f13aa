"""The command wazzup-simulator act: performs one action on a running simulator."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import click

from wazzup_simulator.actions import ACCOUNT_ACTIONS, ACTIONS
from wazzup_simulator.client import Channel, Simulator, SimulatorError

DEFAULT_PORT = 8090
"""Differs from 8080 and 8081, where the operator serves metrics and health."""

ON_CHANNEL = ("add", "delete", *ACTIONS)

OPTIONS = {"add": {"name", "transport", "state"}, "scan": {"phone"}, "scan-slowly": {"phone"}}
"""Options by action."""


def _wrapped(words: Iterable[str]) -> str:
    return textwrap.fill(", ".join(words), 70, break_on_hyphens=False)


_EPILOG = f"""
\b
Actions on a channel:
{_wrapped(ON_CHANNEL)}

\b
Actions on all channels of an account, without NUMBER:
{_wrapped(ACCOUNT_ACTIONS)}
"""


def _checked_url(context: click.Context, parameter: click.Parameter, url: str) -> str:
    try:
        parts = urlsplit(url)
        usable = parts.scheme == "http" and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"Use the form http://127.0.0.1:{DEFAULT_PORT}, not {url}.")
    return url


@click.command(
    name="act",
    short_help="Scan a code, lose a phone, pay and so on.",
    epilog=_EPILOG,
)
@click.argument("action", required=False, metavar="ACTION")
@click.argument("number", required=False, metavar="[NUMBER]")
@click.option(
    "--url",
    envvar="WAZZUP_SIMULATOR_URL",
    default=f"http://127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    show_envvar=True,
    callback=_checked_url,
    help="URL of the simulator.",
)
@click.option("--account", default="default", show_default=True, help="Account id.")
@click.option("--name", help="Name of the channel (add).")
@click.option("--transport", help="Transport of the channel, by default whatsapp (add).")
@click.option("--state", help="State of the channel, as spelled in Wazzup's API (add).")
@click.option("--phone", help="Number of the scanning phone, if it is not the channel's (scan).")
def act(
    action: str | None, number: str | None, url: str, account: str, **options: str | None
) -> None:
    """Perform ACTION on the channel with NUMBER and print the changes.

    NUMBER is a phone number, or a channel id if several channels have that number.
    """
    action = _checked_action(action)
    given = {option: value for option, value in options.items() if value is not None}
    _check_usage(action, number, given)
    with _errors_as_messages(url):
        simulator = Simulator(url)
        before = simulator.channels(account)
        if number is None:
            simulator.act_on_account(action, account)
        elif action == "add":
            simulator.add_channels([{"phone": _digits(number), **given}], account)
        elif action == "delete":
            simulator.delete_channel(_find(before, number))
        else:
            phone = given.get("phone")
            simulator.act(_find(before, number), action, phone=phone and _digits(phone))
        after = simulator.channels(account)
    for line in _changes(before, after) or ["Nothing changed."]:
        click.echo(line)


def _checked_action(action: str | None) -> str:
    actions = (*ON_CHANNEL, *ACCOUNT_ACTIONS)
    if action in actions:
        return action
    wrong = f"Unknown action {action}" if action else "The action is missing"
    raise click.UsageError(f"{wrong}. Actions: {', '.join(actions)}.")


def _check_usage(action: str, number: str | None, given: Mapping[str, str]) -> None:
    if action in ACCOUNT_ACTIONS and number is not None:
        raise click.UsageError(f"The action {action} is for a whole account. Leave out {number}.")
    if action not in ACCOUNT_ACTIONS and number is None:
        raise click.UsageError(f"The action {action} needs a channel's number.")
    for option in given.keys() - OPTIONS.get(action, set()):
        raise click.UsageError(f"The action {action} takes no --{option}.")


@contextmanager
def _errors_as_messages(url: str) -> Iterator[None]:
    try:
        yield
    except SimulatorError as error:
        raise click.ClickException(str(error)) from error
    except OSError as error:
        raise click.ClickException(
            f"No simulator answers at {url} ({error.strerror or error}). Start wazzup-simulator,"
            " or set its address with --url or WAZZUP_SIMULATOR_URL."
        ) from error


def _find(channels: Sequence[Channel], number: str) -> Channel:
    wanted = _digits(number)
    found = [each for each in channels if wanted in (each.id, each.row.get("plainId"))]
    if not found:
        numbers = ", ".join(dict.fromkeys(map(_number, channels))) or "none"
        raise click.ClickException(
            f"This account has no channel {wanted}. Its channels: {numbers}."
        )
    if len(found) > 1:
        ids = ", ".join(each.id for each in found)
        raise click.ClickException(f"{wanted} has several channels. Use the id of one: {ids}.")
    return found[0]


def _changes(before: Sequence[Channel], after: Sequence[Channel]) -> list[str]:
    """Return a line for each channel whose state changed."""
    old, new = ({channel.id: channel for channel in channels} for channels in (before, after))
    states = {key: (_state(old.get(key)), _state(new.get(key))) for key in old | new}
    return [
        f"{_number((old | new)[key])}: {was} -> {now}"
        for key, (was, now) in states.items()
        if was != now
    ]


def _state(channel: Channel | None) -> Any:
    return "absent" if channel is None else channel.row.get("state", "without a state")


def _number(channel: Channel) -> str:
    return str(channel.row.get("plainId", channel.id))


def _digits(number: str) -> str:
    return number.removeprefix("+")
