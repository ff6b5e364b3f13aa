"""The subcommands `check` and `export`. They import what they need only when they run."""

import sys

import click


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
        now.add_all(texts(paths))
    except NoBase as error:
        raise click.UsageError(f"--base: {error}") from error
    except OSError as error:
        raise click.UsageError(f"{error.filename}: {error.strerror}.") from error
    former = {each.key: each.spec for each in map(declared, then.manifests) if each}
    problems = sorted([*now.problems, *check(now.manifests, former)])
    click.echo(REPORTS[format_](problems), nl=False)
    click.echo(summary(problems, len(now.manifests), now.texts), err=True)
    sys.exit(any(each.severity is Severity.ERROR for each in problems))
