"""Command line. Every setting is a flag and an environment variable of the same name."""

import asyncio
import logging
import re
import sys
from collections.abc import Callable, Coroutine
from datetime import timedelta
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from wazzup_operator.kube.errors import ConfigurationMissing, EtcdRestored, LeadershipLost
from wazzup_operator.observability.logging import LogFormat, configure
from wazzup_operator.resources.account import seconds
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.settings import (
    Address,
    CertificateSettings,
    ControllerSettings,
    ElectionSettings,
    WebhookSettings,
)

log = logging.getLogger("wazzup_operator")

_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


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


class _ListenAddress(click.ParamType[Address]):
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


def _is_label(text: str) -> bool:
    """Return whether this is a DNS-1123 label, like names of namespaces."""
    return bool(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text))


def _is_subdomain(text: str) -> bool:
    """Return whether this is a DNS-1123 subdomain, like names of most objects."""
    part = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    return len(text) <= 253 and bool(re.fullmatch(rf"{part}(\.{part})*", text))


class _Namespace(click.ParamType[str]):
    name = "namespace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not _is_label(str(value)):
            self.fail(f"{value!r} is not a namespace name; repeat the flag for several", param, ctx)
        return str(value)


class _Validity(_Duration):
    """Validity of a certificate.

    A shorter one might expire before the kubelet mounts its renewal; with a longer one, a CA would
    stay trusted for more than a year after its rotation.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        validity = super().convert(value, param, ctx)
        if not timedelta(hours=1) <= validity <= timedelta(hours=8760):
            self.fail(f"{value!r} is out of range; write a duration from 1h to 8760h", param, ctx)
        return validity


class _Name(click.ParamType[str]):
    """The name of an object: a DNS-1123 subdomain, or a label for Services."""

    name = "name"

    def __init__(self, *, label: bool = False) -> None:
        self._fits = _is_label if label else _is_subdomain
        self._form = "letters, digits and hyphens" if label else "letters, digits, hyphens and dots"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not self._fits(str(value)):
            self.fail(f"{value!r} is not a valid name; use lower-case {self._form}", param, ctx)
        return str(value)


class _SecretName(click.ParamType[NamespacedName]):
    name = "namespace/name"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NamespacedName:
        namespace, _, name = str(value).partition("/")
        if not (_is_label(namespace) and _is_subdomain(name)):
            self.fail(f"{value!r} is not the NAMESPACE/NAME of a Secret", param, ctx)
        return NamespacedName(namespace, name)


def _setting(flag: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    name = flag.partition("/")[0].lstrip("-").replace("-", "_").upper()
    attributes = {"show_default": True, **attributes}
    return click.option(
        flag, *names, envvar=f"WAZZUP_OPERATOR_{name}", show_envvar=True, **attributes
    )


def _own_namespace() -> str | None:
    """Return the namespace of the Pod that this process runs in, if any."""
    try:
        return _NAMESPACE_FILE.read_text().strip() or None
    except OSError:
        return None


@click.group()
def cli() -> None:
    """Show in Kubernetes whether each WhatsApp channel connected to Wazzup works."""


_MIN_POLL_INTERVAL = _setting(
    "--min-poll-interval",
    type=_Duration(),
    default="5s",
    help="Minimum pollInterval; shorter values are raised to it.",
)


def _process(command: Callable[..., None]) -> Callable[..., None]:
    """Add the settings that both processes have."""
    for setting in (
        _setting(
            "--log-level",
            type=click.Choice(["debug", "info", "warning", "error"]),
            default="info",
            help="Minimum log level.",
        ),
        _setting(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            help="Log format.",
        ),
        _setting(
            "--health-address",
            type=_ListenAddress(),
            default=":8081",
            help="Listen address of /healthz and /readyz.",
        ),
        _setting(
            "--metrics-address",
            type=_ListenAddress(),
            default=":8080",
            help="Listen address of /metrics.",
        ),
    ):
        command = setting(command)
    return command


def _run(process: Coroutine[Any, Any, None]) -> None:
    """Run a process; log an expected fatal error as one line and exit with 1."""
    try:
        asyncio.run(process)
    except (ConfigurationMissing, EtcdRestored, LeadershipLost, OSError) as error:
        log.error("%s", error)
        sys.exit(1)


@cli.command()
@_setting(
    "--wazzup-url",
    type=_Url(),
    default="https://api.wazzup24.com",
    help="URL of Wazzup's API. API keys are sent nowhere else.",
)
@_setting(
    "--namespace",
    "namespaces",
    type=_Namespace(),
    multiple=True,
    show_default="all",
    help="Namespace to watch; repeatable (variable: space-separated).",
)
@_MIN_POLL_INTERVAL
@_setting(
    "--progress-deadline",
    type=_Duration(),
    default="15m",
    help="How long an object that is not Ready stays Reconciling before it becomes Stalled.",
)
@_setting(
    "--stale-after",
    type=_Duration(),
    default="10m",
    help="How long channels keep their last state while the account cannot be listed; at least"
    " three pollIntervals.",
)
@_setting(
    "--channel-series-limit",
    type=click.IntRange(min=0),
    default=2000,
    help="Maximum number of WazzupChannels with their own metric series; those not Ready first.",
)
@_setting(
    "--webhook-secret",
    type=_SecretName(),
    help="NAMESPACE/NAME of an existing Secret in which the controller keeps the webhook's"
    " certificate. Leave empty if cert-manager does, or without a webhook.",
)
@_setting(
    "--webhook-configuration",
    type=_Name(),
    default="wazzup-operator",
    help="ValidatingWebhookConfiguration whose caBundle the controller updates.",
)
@_setting(
    "--webhook-service",
    type=_Name(label=True),
    default="wazzup-operator-webhook",
    help="Service of the webhook, in the Secret's namespace; the certificate is issued for it.",
)
@_setting(
    "--webhook-certificate-validity",
    type=_Validity(),
    default="2160h",
    help="Validity of the serving certificate, from 1h to 8760h; it is renewed after two thirds of"
    " it.",
)
@_setting(
    "--leader-elect/--no-leader-elect",
    default=True,
    help="Elect a leader with a Lease, so that several replicas can run.",
)
@_setting(
    "--leader-elect-lease-duration",
    type=_Duration(),
    default="15s",
    help="How long standbys wait after the leader's last renewal.",
)
@_setting(
    "--leader-elect-renew-deadline",
    type=_Duration(),
    default="10s",
    help="How long the leader acts without a renewal before it exits.",
)
@_setting(
    "--leader-elect-retry-period",
    type=_Duration(),
    default="2s",
    help="Interval of the leader's renewals; standbys check the Lease twice as often.",
)
@_setting(
    "--leader-elect-resource-name",
    type=_Name(),
    default="wazzup-operator",
    help="Name of the Lease.",
)
@_setting(
    "--leader-elect-resource-namespace",
    type=_Namespace(),
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
@_setting(
    "--webhook-address",
    type=_ListenAddress(),
    default=":9443",
    help="Listen address for the API server's reviews, over HTTPS.",
)
@_setting(
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
        sys.exit(2)
    except click.exceptions.Abort:
        sys.exit(130)
