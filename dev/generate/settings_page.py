"""docs/settings.md: the flags of both processes, from the command-line parser."""

from collections.abc import Iterator

import click

from dev.generate.document import table
from wazzup_operator.cli import cli


def sections() -> dict[str, str]:
    """Return a table of flags for each process."""
    return {
        name: table(("flag", "default", "meaning"), _rows(cli.commands[name]))
        for name in ("controller", "webhook")
    }


def _rows(command: click.Command) -> Iterator[tuple[str, str, str]]:
    for option in command.params:
        if isinstance(option, click.Option):
            flags = ", ".join(f"`{flag}`" for flag in [*option.opts, *option.secondary_opts])
            yield flags, _default(option), _meaning(option)


def _meaning(option: click.Option) -> str:
    help_ = option.help or ""
    if isinstance(option.type, click.Choice):
        return f"{help_.removesuffix('.')}: {', '.join(option.type.choices)}."
    return help_


def _default(option: click.Option) -> str:
    if isinstance(option.show_default, str):
        return option.show_default
    if option.is_flag:
        return f"`--{option.name}`".replace("_", "-")
    return f"`{option.default}`" if isinstance(option.default, str | int) else "none"
