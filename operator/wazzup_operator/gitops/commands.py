"""The subcommands `check` and `export`. They import what they need only when they run."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from wazzup_operator.flags import Name, Namespace, Url, setting

_KEY_VARIABLE = "WAZZUP_API_KEY"


class Failed(click.ClickException):
    """A command cannot do its work; the message is one line."""

    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.ctx = click.get_current_context()


class NotChecked(Failed):
    """Nothing was checked, which is not the same as problems: 2, as for grep and diff."""

    exit_code = 2


@contextmanager
def _paths_named(failure: type[Failed]) -> Iterator[None]:
    """Turn an error of a file into one line."""
    try:
        yield
    except OSError as error:
        raise failure(f"{error.filename}: {error.strerror}.") from error


@click.command(
    short_help="Check files with WazzupAccounts and WazzupChannels before they are applied.",
    epilog="""\b
Examples:
  wazzup-operator check channels/
  wazzup-operator check --base origin/main --format github channels/
  kubectl kustomize . | wazzup-operator check -""",
)
@click.argument(
    "paths",
    metavar="PATH...",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, allow_dash=True),
)
@click.option(
    "--base",
    metavar="REF",
    help="Also report changes since this commit that the API server would refuse, for example"
    " origin/main.",
)
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="Format of the report; github writes annotations for a workflow.",
)
def check(paths: tuple[str, ...], base: str | None, format_: str) -> None:
    """Check WazzupAccounts and WazzupChannels in files before they are applied.

    PATH is a file, a folder, or - for standard input. Other kinds are skipped. The rules are those
    of the API server and the webhook that need no cluster. Exits with 1 if there are errors.
    """
    from wazzup_operator.gitops.check import check, declared
    from wazzup_operator.gitops.git import NoBase, texts_at
    from wazzup_operator.gitops.problem import Severity
    from wazzup_operator.gitops.report import REPORTS, summary
    from wazzup_operator.gitops.sources import STANDARD_INPUT, Declarations, texts

    now, then = Declarations(), Declarations()
    try:
        if base is not None:
            if STANDARD_INPUT in paths:
                raise click.UsageError("--base needs files; it cannot compare standard input.")
            then.add_all(texts_at(base, paths))
        with _paths_named(NotChecked):
            now.add_all(texts(paths))
    except NoBase as error:
        raise click.UsageError(f"--base: {error}") from error
    former = {each.key: each.spec for each in map(declared, then.manifests) if each}
    problems = sorted([*now.problems, *check(now.manifests, former)])
    click.echo(REPORTS[format_](problems), nl=False)
    click.echo(summary(problems, len(now.manifests), now.texts), err=True)
    sys.exit(any(each.severity is Severity.ERROR for each in problems))


@click.command(
    short_help="Write an account's channels in Wazzup as YAML.",
    context_settings={"allow_extra_args": True},  # click would print one, which may be a key
    epilog=f"""\b
Examples:
  {_KEY_VARIABLE}=… wazzup-operator export > channels.yaml
  wazzup-operator export --api-key-file key.txt --output-dir channels/
  kubectl get secret wazzup -o go-template='{{{{.data.apiKey | base64decode}}}}' |
    wazzup-operator export --api-key-file - --namespace shop""",
)
@click.option(
    "--api-key-file",
    metavar="FILE",
    help=f"File with the API key, - for standard input. Without it: the variable {_KEY_VARIABLE}.",
)
@click.option(
    "--output-dir",
    "-o",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write one file for each object into this folder, and a kustomization.yaml. Files that are"
    " there keep names, labels and comments; only what Wazzup contradicts is changed.",
)
@click.option(
    "--account",
    type=Name(),
    default="default",
    show_default=True,
    help="Name of the WazzupAccount.",
)
@click.option("--namespace", type=Namespace(), help="Namespace to write into the objects.")
@click.option(
    "--secret",
    type=Name(),
    default="wazzup",
    show_default=True,
    help="Name of the Secret with the API key. It is not written.",
)
@setting(
    "--wazzup-url",
    type=Url(),
    default="https://api.wazzup24.com",
    help="URL of Wazzup's API. API keys are sent nowhere else.",
)
def export(
    api_key_file: str | None,
    output_dir: Path | None,
    account: str,
    namespace: str | None,
    secret: str,
    wazzup_url: str,
) -> None:
    """Write a WazzupAccount, and a WazzupChannel for each number of its account, as YAML.

    Needs no cluster and changes nothing in Wazzup. The API key is never an argument, because other
    processes see those. What no object can declare is written as comments.
    """
    from wazzup_operator.gitops.account import NoListing, survey
    from wazzup_operator.gitops.counted import summary
    from wazzup_operator.gitops.export import Target, export, stream
    from wazzup_operator.gitops.folder import Folder, Unusable

    key = _api_key(api_key_file)
    folder = Folder(output_dir) if output_dir else None
    try:
        with _paths_named(Failed):
            files = folder.read() if folder else []
            found = asyncio.run(survey(wazzup_url, key))
            done = export(found, Target(account, namespace, secret), files)
            if folder:
                folder.write(done)
    except (NoListing, Unusable) as error:
        raise Failed(str(error)) from error
    if not folder:
        click.echo(stream(done), nl=False)
    lines = [*summary(found, done, to_folder=folder is not None), *done.notes, *done.failures]
    click.echo("\n".join(lines), err=True)
    sys.exit(bool(done.failures))


def _api_key(file: str | None) -> str:
    from wazzup_operator.domain.api_key import NotAnApiKey, clean

    context = click.get_current_context()
    if context.args or (file is None and _KEY_VARIABLE not in os.environ):
        raise click.UsageError(
            f"set {_KEY_VARIABLE} to the API key, or --api-key-file to the name of its file (- for"
            " standard input). The key is never an argument.",
            context,
        )
    if file is None:
        place, value = f"The variable {_KEY_VARIABLE}", os.environb[_KEY_VARIABLE.encode()]
    elif file == "-":
        place, value = "Standard input", sys.stdin.buffer.read()
    else:
        place, value = "The file of --api-key-file", _content(file)
    try:
        return clean(value, place)
    except NotAnApiKey as error:
        raise Failed(str(error)) from error


def _content(file: str) -> bytes:
    """Return a file's content. Its name may be a key by mistake, so no error shows it."""
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:
        raise click.UsageError(
            f"--api-key-file: {getattr(error, 'strerror', None) or 'not a file name'}. Give the"
            " name of a file with the key.",
            click.get_current_context(),
        ) from error
