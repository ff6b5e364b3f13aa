"""Command line: flags, environment variables, errors."""

import asyncio
import logging
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

import wazzup_operator.admission.app as webhook
import wazzup_operator.cli as cli
import wazzup_operator.controller.app as controller
from wazzup_operator.cli import main
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.settings import (
    Address,
    CertificateSettings,
    ControllerSettings,
    ElectionSettings,
    WebhookSettings,
)

CONTROLLER = ControllerSettings(
    wazzup_url="https://api.wazzup24.com",
    namespaces=(),
    metrics_address=Address("", 8080),
    health_address=Address("", 8081),
    min_poll_interval=timedelta(seconds=5),
    progress_deadline=timedelta(minutes=15),
    stale_after=timedelta(minutes=10),
    election=ElectionSettings(
        lease=NamespacedName("wazzup", "wazzup-operator"),
        lease_duration=timedelta(seconds=15),
        renew_deadline=timedelta(seconds=10),
        retry_period=timedelta(seconds=2),
    ),
)


@pytest.fixture
def run(monkeypatch, tmp_path_factory):
    """Return a function that runs a command line and returns its exit code and settings."""
    root, started = logging.getLogger(), []

    pod = tmp_path_factory.mktemp("pod") / "namespace"
    pod.write_text("wazzup")
    monkeypatch.setattr(cli, "_NAMESPACE_FILE", pod)
    monkeypatch.setattr(controller, "run", started.append)
    monkeypatch.setattr(webhook, "run", started.append)
    monkeypatch.setattr(asyncio, "run", lambda result: result)
    handlers, level = root.handlers[:], root.level

    def call(*arguments):
        started.clear()
        monkeypatch.setattr(sys, "argv", ["wazzup-operator", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, started[0] if started else None

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)


LONGEST_NAME = ".".join(["n" * 63] * 3) + "." + "n" * 61  # 253 characters

SETTINGS = [
    ("controller", "--wazzup-url", "http://127.0.0.1:8090", "wazzup_url", "http://127.0.0.1:8090"),
    ("controller", "--namespace", "shop", "namespaces", ("shop",)),
    ("controller", "--metrics-address", ":0", "metrics_address", Address("", 0)),
    ("controller", "--health-address", "[::1]:9001", "health_address", Address("::1", 9001)),
    ("controller", "--min-poll-interval", "30s", "min_poll_interval", timedelta(seconds=30)),
    ("controller", "--progress-deadline", "1h30m", "progress_deadline", timedelta(minutes=90)),
    ("controller", "--stale-after", "1.5h", "stale_after", timedelta(minutes=90)),
    ("controller", "--stale-after", "500ms", "stale_after", timedelta(milliseconds=500)),
    ("controller", "--metric-labels", "", "metric_labels", ()),
    (
        "controller",
        "--metric-labels",
        "team, acme.io/Site",
        "metric_labels",
        ("team", "acme.io/Site"),
    ),
    ("webhook", "--webhook-address", "[::]:8443", "webhook_address", Address("::", 8443)),
    ("webhook", "--cert-dir", "/tls", "cert_dir", Path("/tls")),
    ("webhook", "--min-poll-interval", "1m", "min_poll_interval", timedelta(minutes=1)),
    ("webhook", "--health-address", ":0", "health_address", Address("", 0)),
    ("webhook", "--metrics-address", "127.0.0.1:1", "metrics_address", Address("127.0.0.1", 1)),
]
ELECTION = [
    ("--leader-elect-resource-name", "other", "lease", ("wazzup", "other")),
    ("--leader-elect-resource-namespace", "shop", "lease", ("shop", "wazzup-operator")),
    ("--leader-elect-lease-duration", "1m", "lease_duration", timedelta(minutes=1)),
    ("--leader-elect-renew-deadline", "12s", "renew_deadline", timedelta(seconds=12)),
    ("--leader-elect-retry-period", "500ms", "retry_period", timedelta(seconds=0.5)),
]
KEPT = CertificateSettings(
    secret=NamespacedName("wazzup", "hook"),
    configuration="wazzup-operator",
    service="wazzup-operator-webhook",
    validity=timedelta(days=90),
)
CERTIFICATE = [
    ("--webhook-secret", "shop/pair.v1", "secret", ("shop", "pair.v1")),
    ("--webhook-secret", f"{'n' * 63}/{LONGEST_NAME}", "secret", ("n" * 63, LONGEST_NAME)),
    ("--webhook-configuration", LONGEST_NAME, "configuration", LONGEST_NAME),
    ("--webhook-service", "s" * 63, "service", "s" * 63),
    ("--webhook-certificate-validity", "1h", "validity", timedelta(hours=1)),
    ("--webhook-certificate-validity", "8760h", "validity", timedelta(days=365)),
]
WEBHOOK = WebhookSettings(
    webhook_address=Address("", 9443),
    cert_dir=Path("/etc/wazzup-operator/tls"),
    min_poll_interval=timedelta(seconds=5),
    health_address=Address("", 8081),
    metrics_address=Address("", 8080),
)
DEFAULTS = {"controller": CONTROLLER, "webhook": WEBHOOK}


def variable(flag):
    return "WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_")


@pytest.mark.parametrize("command", DEFAULTS)
def test_the_defaults(run, command):
    assert run(command) == (0, DEFAULTS[command])


@pytest.mark.parametrize(("command", "flag", "value", "field", "expected"), SETTINGS)
def test_a_flag_and_its_variable(run, monkeypatch, command, flag, value, field, expected):
    wanted = replace(DEFAULTS[command], **{field: expected})
    assert run(command, flag, value) == (0, wanted)
    monkeypatch.setenv(variable(flag), value)
    assert run(command) == (0, wanted)


@pytest.mark.parametrize(("flag", "value", "field", "expected"), ELECTION)
def test_the_election(run, monkeypatch, flag, value, field, expected):
    assert getattr(run("controller", flag, value)[1].election, field) == expected
    monkeypatch.setenv(variable(flag), value)
    assert getattr(run("controller")[1].election, field) == expected


def test_without_a_secret_no_certificate_is_renewed(run):
    assert run("controller")[1].certificate is None
    assert run("controller", "--webhook-secret=wazzup/hook")[1].certificate == KEPT


@pytest.mark.parametrize(("flag", "value", "field", "expected"), CERTIFICATE)
def test_the_certificate(run, monkeypatch, flag, value, field, expected):
    monkeypatch.setenv("WAZZUP_OPERATOR_WEBHOOK_SECRET", "wazzup/hook")
    wanted = replace(KEPT, **{field: expected})
    assert run("controller", flag, value)[1].certificate == wanted
    monkeypatch.setenv(variable(flag), value)
    assert run("controller")[1].certificate == wanted


def test_a_flag_overrides_the_environment(run, monkeypatch):
    monkeypatch.setenv("WAZZUP_OPERATOR_STALE_AFTER", "1h")
    assert run("controller", "--stale-after", "2h")[1].stale_after == timedelta(hours=2)


def test_several_namespaces(run, monkeypatch):
    assert run("controller", "--namespace", "a", "--namespace", "b")[1].namespaces == ("a", "b")
    monkeypatch.setenv("WAZZUP_OPERATOR_NAMESPACE", "c d")
    assert run("controller")[1].namespaces == ("c", "d")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_the_log_level(run, level):
    assert run("controller", "--log-level", level)[0] == 0
    assert logging.getLogger().level == getattr(logging, level.upper())


BAD = [
    ("controller", "--wazzup-url", "api.wazzup24.com", "https://api.wazzup24.com"),
    ("controller", "--wazzup-url", "ftp://api.wazzup24.com", "https://api.wazzup24.com"),
    ("controller", "--wazzup-url", "https://", "https://api.wazzup24.com"),
    ("controller", "--wazzup-url", "http://[::1", "https://api.wazzup24.com"),
    ("controller", "--metrics-address", "8080", ":8080"),
    ("controller", "--metrics-address", ":http", ":8080"),
    ("controller", "--metrics-address", ":65536", ":8080"),
    ("controller", "--health-address", "localhost", ":8080"),
    ("controller", "--health-address", ":-1", ":8080"),
    ("controller", "--min-poll-interval", "5", "5m"),
    ("controller", "--min-poll-interval", "-5s", "5m"),
    ("controller", "--progress-deadline", "soon", "5m"),
    ("controller", "--progress-deadline", "15 m", "5m"),
    ("controller", "--stale-after", "10min", "5m"),
    ("controller", "--stale-after", "1d", "5m"),
    ("controller", "--stale-after", "99999999999999h", ""),
    ("controller", "--namespace", "sales,support", ""),
    ("controller", "--namespace", "../kube-system", ""),
    ("controller", "--log-format", "xml", "json"),
    ("controller", "--log-level", "loud", "debug"),
    ("controller", "--webhook-secret", "hook", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", "wazzup/", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", "/hook", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", "wazzup/hook/more", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", "Wazzup/hook", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", "waz.zup/hook", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", "wazzup/..", "NAMESPACE/NAME"),
    ("controller", "--webhook-secret", f"wazzup/{LONGEST_NAME}n", "NAMESPACE/NAME"),
    ("controller", "--webhook-configuration", "Wazzup", "lower-case letters, digits, hyphens"),
    ("controller", "--webhook-configuration", "a/b", "lower-case letters, digits, hyphens"),
    ("controller", "--webhook-configuration", "-wz", "lower-case letters, digits, hyphens"),
    ("controller", "--webhook-configuration", "wz.-x", "lower-case letters, digits, hyphens"),
    ("controller", "--webhook-configuration", "wz\n", "lower-case letters, digits, hyphens"),
    ("controller", "--webhook-service", "hook.wazzup", "lower-case letters, digits and hyphens"),
    ("controller", "--webhook-service", "hook-", "lower-case letters, digits and hyphens"),
    ("controller", "--webhook-service", "s" * 64, "lower-case letters, digits and hyphens"),
    ("controller", "--webhook-certificate-validity", "59m59s", "from 1h to 8760h"),
    ("controller", "--webhook-certificate-validity", "8760h1s", "from 1h to 8760h"),
    ("controller", "--webhook-certificate-validity", "90d", ""),
    ("controller", "--metric-labels", "team,-x", "one such as team"),
    ("controller", "--metric-labels", "/team", "one such as team"),
    ("controller", "--metric-labels", "a b", "one such as team"),
    ("controller", "--metric-labels", "a.b,a-b", "remove one"),
    ("controller", "--metric-labels", "a,b,c,d,e,f,g,h,i", "at most 8"),
    ("webhook", "--webhook-address", "9443", ":8080"),
    ("webhook", "--min-poll-interval", "5", "5m"),
    ("webhook", "--health-address", ":65536", ":8080"),
    ("webhook", "--metrics-address", "x", ":8080"),
    ("webhook", "--log-format", "xml", "json"),
]


def one_line(captured):
    assert captured.out == ""
    assert captured.err.endswith("\n")
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize(("command", "flag", "value", "remedy"), BAD)
def test_a_bad_value_is_one_line_with_the_remedy(
    run, capsys, monkeypatch, command, flag, value, remedy
):
    assert run(command, flag, value) == (2, None)
    line = one_line(capsys.readouterr())
    assert line.startswith(f"wazzup-operator {command}: ")
    assert flag in line
    assert remedy in line
    monkeypatch.setenv(variable(flag), value)
    assert run(command) == (2, None)
    assert variable(flag) in one_line(capsys.readouterr())


@pytest.mark.parametrize(
    "arguments",
    [
        ["controller", "--nonsense"],
        ["controller", "--stale-after"],
        ["controller", "more"],
        ["nonsense"],
        ["crds", "--directory", "/nonexistent/directory"],
    ],
    ids=" ".join,
)
def test_other_usage_errors_are_one_line(run, capsys, arguments):
    assert run(*arguments) == (2, None)
    assert one_line(capsys.readouterr()).startswith("wazzup-operator")


def test_help_names_the_variables(run, capsys):
    assert run("controller", "--help")[0] == 0
    text = capsys.readouterr().out
    for flag in [flag for command, flag, *_ in SETTINGS if command == "controller"]:
        assert flag in text
        assert variable(flag) in text


def test_crds_are_printed(run, capsys):
    assert run("crds")[0] == 0
    text = capsys.readouterr().out
    assert text.count("kind: CustomResourceDefinition") == 2
    assert text.count("\n---\n") == 1


def test_crds_are_written(run, tmp_path):
    assert run("crds", "--directory", str(tmp_path))[0] == 0
    assert {path.name for path in tmp_path.iterdir()} == {
        "wazzupaccounts.yaml",
        "wazzupchannels.yaml",
    }


def test_the_real_process():
    done = subprocess.run(
        [sys.executable, "-m", "wazzup_operator", "controller", "--stale-after", "never"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


def test_no_election(run, monkeypatch):
    assert run("controller", "--no-leader-elect")[1].election is None
    monkeypatch.setenv("WAZZUP_OPERATOR_LEADER_ELECT", "false")
    assert run("controller")[1].election is None
    assert run("controller", "--leader-elect")[1].election is not None


def test_no_namespace_for_the_lease(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "_NAMESPACE_FILE", tmp_path / "none")
    assert run("controller") == (2, None)
    assert capsys.readouterr().err == (
        "wazzup-operator controller: outside a cluster the Lease needs a namespace; set"
        " --leader-elect-resource-namespace, or run a single replica with --no-leader-elect\n"
    )


@pytest.mark.parametrize(
    "flags",
    [
        ("--leader-elect-retry-period=5001ms",),
        ("--leader-elect-renew-deadline=15s",),
        ("--leader-elect-lease-duration=10s",),
        ("--leader-elect-retry-period=0s",),
    ],
)
def test_durations_that_contradict_each_other(run, capsys, flags):
    assert run("controller", *flags) == (2, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert "--leader-elect-retry-period must be at most half of" in line
