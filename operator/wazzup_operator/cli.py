"""Command line. Every setting is a flag and an environment variable of the same name."""

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import click

from wazzup_operator.flags import (
    Duration,
    ListenAddress,
    MetricLabels,
    Name,
    Namespace,
    SecretName,
    Url,
    Validity,
    setting,
)
from wazzup_operator.gitops.commands import check, export
from wazzup_operator.kube.errors import ConfigurationMissing, EtcdRestored, LeadershipLost
from wazzup_operator.observability.logging import LogFormat, configure
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.settings import (
    CertificateSettings,
    ControllerSettings,
    ElectionSettings,
    WebhookSettings,
)

log = logging.getLogger("wazzup_operator")

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def _own_namespace() -> str | None:
    """Return the namespace of the Pod that this process runs in, if any."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


@click.group()
def cli() -> None:
    """Show in Kubernetes whether each WhatsApp channel connected to Wazzup works."""


_MIN_POLL_INTERVAL = setting(
    "--min-poll-interval",
    type=Duration(),
    default="5s",
    help="Minimum pollInterval; shorter values are raised to it.",
)


def _process(command: Callable[..., None]) -> Callable[..., None]:
    """Add the settings that both processes have."""
    for each in (
        setting(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            help="Minimum log level.",
        ),
        setting(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            help="Log format.",
        ),
        setting(
            "--health-address",
            type=ListenAddress(),
            default=":8081",
            help="Listen address of /healthz and /readyz.",
        ),
        setting(
            "--metrics-address",
            type=ListenAddress(),
            default=":8080",
            help="Listen address of /metrics.",
        ),
    ):
        command = each(command)
    return command


def _run(process: Coroutine[Any, Any, None]) -> None:
    """Run a process; log an expected fatal error as one line and exit with 1."""
    try:
        asyncio.run(process)
    except (ConfigurationMissing, EtcdRestored, LeadershipLost, OSError) as error:
        log.error("%s", error)
        sys.exit(1)


@cli.command()
@setting(
    "--wazzup-url",
    type=Url(),
    default="https://api.wazzup24.com",
    help="URL of Wazzup's API. API keys are sent nowhere else.",
)
@setting(
    "--namespace",
    "namespaces",
    type=Namespace(),
    multiple=True,
    show_default="all",
    help="Namespace to watch; repeatable (variable: space-separated).",
)
@_MIN_POLL_INTERVAL
@setting(
    "--progress-deadline",
    type=Duration(),
    default="15m",
    help="How long an object that is not Ready stays Reconciling before it becomes Stalled.",
)
@setting(
    "--stale-after",
    type=Duration(),
    default="10m",
    help="How long channels keep their last state while the account cannot be listed; at least"
    " three pollIntervals.",
)
@setting(
    "--channel-series-limit",
    type=click.IntRange(min=0),
    default=2000,
    help="Maximum number of WazzupChannels with their own metric series; those not Ready first.",
)
@setting(
    "--metric-labels",
    type=MetricLabels(),
    default="",
    show_default="none",
    help="Labels of WazzupChannels that their series and alerts have too, separated by commas, at"
    " most 8; team becomes label_team.",
)
@setting(
    "--webhook-secret",
    type=SecretName(),
    help="NAMESPACE/NAME of an existing Secret in which the controller keeps the webhook's"
    " certificate. Leave empty if cert-manager does, or without a webhook.",
)
@setting(
    "--webhook-configuration",
    type=Name(),
    default="wazzup-operator",
    help="ValidatingWebhookConfiguration whose caBundle the controller updates.",
)
@setting(
    "--webhook-service",
    type=Name(label=True),
    default="wazzup-operator-webhook",
    help="Service of the webhook, in the Secret's namespace; the certificate is issued for it.",
)
@setting(
    "--webhook-certificate-validity",
    type=Validity(),
    default="2160h",
    help="Validity of the serving certificate, from 1h to 8760h; it is renewed after two thirds of"
    " it.",
)
@setting(
    "--leader-elect/--no-leader-elect",
    default=True,
    help="Elect a leader with a Lease, so that several replicas can run.",
)
@setting(
    "--leader-elect-lease-duration",
    type=Duration(),
    default="15s",
    help="How long standbys wait after the leader's last renewal.",
)
@setting(
    "--leader-elect-renew-deadline",
    type=Duration(),
    default="10s",
    help="How long the leader acts without a renewal before it exits.",
)
@setting(
    "--leader-elect-retry-period",
    type=Duration(),
    default="2s",
    help="Interval of the leader's renewals; standbys check the Lease twice as often.",
)
@setting(
    "--leader-elect-resource-name",
    type=Name(),
    default="wazzup-operator",
    help="Name of the Lease.",
)
@setting(
    "--leader-elect-resource-namespace",
    type=Namespace(),
    default=_own_namespace,
    show_default="the Pod's own",
    help="Namespace of the Lease.",
)
@_process
def controller(
    log_format: LogFormat,
    log_level: str,
    leader_elect: bool,
    leader_elect_lease_duration: timedelta,
    leader_elect_renew_deadline: timedelta,
    leader_elect_retry_period: timedelta,
    leader_elect_resource_name: str,
    leader_elect_resource_namespace: str | None,
    webhook_secret: NamespacedName | None,
    webhook_configuration: str,
    webhook_service: str,
    webhook_certificate_validity: timedelta,
    **settings: Any,
) -> None:
    """Watch the objects, list the accounts in Wazzup and write the statuses."""
    from wazzup_operator.controller.app import run

    configure(log_format, log_level)
    certificate = webhook_secret and CertificateSettings(
        webhook_secret, webhook_configuration, webhook_service, webhook_certificate_validity
    )
    election = None
    if leader_elect:
        election = _election(
            leader_elect_resource_name,
            leader_elect_resource_namespace,
            leader_elect_lease_duration,
            leader_elect_renew_deadline,
            leader_elect_retry_period,
        )
    _run(run(ControllerSettings(certificate=certificate, election=election, **settings)))


def _election(
    name: str, namespace: str | None, duration: timedelta, deadline: timedelta, period: timedelta
) -> ElectionSettings:
    if namespace is None:
        raise click.UsageError(
            "outside a cluster the Lease needs a namespace; set --leader-elect-resource-namespace,"
            " or run a single replica with --no-leader-elect",
            click.get_current_context(),
        )
    if not timedelta(0) < 2 * period <= deadline < duration:
        raise click.UsageError(
            "the leader could not renew its Lease in time: --leader-elect-retry-period must be at"
            " most half of --leader-elect-renew-deadline, which must be less than"
            " --leader-elect-lease-duration",
            click.get_current_context(),
        )
    return ElectionSettings(NamespacedName(namespace, name), duration, deadline, period)


@cli.command()
@setting(
    "--webhook-address",
    type=ListenAddress(),
    default=":9443",
    help="Listen address for the API server's reviews, over HTTPS.",
)
@setting(
    "--cert-dir",
    type=click.Path(path_type=Path),
    default="/etc/wazzup-operator/tls",
    help="Directory with tls.crt and tls.key; a renewal is loaded without a restart.",
)
@_MIN_POLL_INTERVAL
@_process
def webhook(log_format: LogFormat, log_level: str, **settings: Any) -> None:
    """Review changes of objects: refuse invalid ones, warn about risky ones."""
    from wazzup_operator.admission.app import run

    configure(log_format, log_level)
    _run(run(WebhookSettings(**settings)))


@cli.command()
@click.option(
    "--directory",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    help="Write one file for each CRD into this directory instead.",
)
def crds(directory: Path | None) -> None:
    """Print the CustomResourceDefinitions, for `kubectl apply --server-side -f -`."""
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


cli.add_command(check)
cli.add_command(export)


def main() -> None:
    """Run the command line; a usage error is one line and exit code 2."""
    try:
        sys.exit(cli.main(prog_name="wazzup-operator", standalone_mode=False))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(2)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "wazzup-operator"
        click.echo(f"{command}: {error.format_message()}", err=True)
        sys.exit(2 if isinstance(error, click.UsageError) else error.exit_code)
    except click.exceptions.Abort:
        sys.exit(130)
