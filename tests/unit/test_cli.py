"""The command line: settings come from flags and from the environment, bad ones end in one line."""

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

DEFAULTS = ControllerSettings(
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
    """Run a command line in this process; what would run only takes down its settings."""
    root, taken = logging.getLogger(), []

    pod = tmp_path_factory.mktemp("pod") / "namespace"
    pod.write_text("wazzup")
    monkeypatch.setattr(cli, "_NAMESPACE_FILE", pod)
    monkeypatch.setattr(controller, "run", taken.append)
    monkeypatch.setattr(webhook, "run", taken.append)
    monkeypatch.setattr(asyncio, "run", lambda result: result)
    handlers, level = root.handlers[:], root.level

    def call(*arguments):
        taken.clear()
        monkeypatch.setattr(sys, "argv", ["wazzup-operator", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code or 0, taken[0] if taken else None

    yield call
    root.handlers[:] = handlers
    root.setLevel(level)


SETTINGS = [
    ("--wazzup-url", "http://127.0.0.1:8090", "wazzup_url", "http://127.0.0.1:8090"),
    ("--namespace", "shop", "namespaces", ("shop",)),
    ("--metrics-address", "127.0.0.1:9000", "metrics_address", Address("127.0.0.1", 9000)),
    ("--metrics-address", ":0", "metrics_address", Address("", 0)),
    ("--health-address", "[::1]:9001", "health_address", Address("::1", 9001)),
    ("--min-poll-interval", "30s", "min_poll_interval", timedelta(seconds=30)),
    ("--progress-deadline", "1h30m", "progress_deadline", timedelta(minutes=90)),
    ("--stale-after", "1.5h", "stale_after", timedelta(minutes=90)),
    ("--stale-after", "500ms", "stale_after", timedelta(milliseconds=500)),
]
each_setting = pytest.mark.parametrize(
    ("flag", "value", "field", "expected"),
    SETTINGS,
    ids=[f"{flag[2:]}={value}" for flag, value, _, _ in SETTINGS],
)


def test_the_defaults(run):
    assert run("controller") == (0, DEFAULTS)


@each_setting
def test_a_flag(run, flag, value, field, expected):
    code, settings = run("controller", flag, value)
    assert code == 0
    assert getattr(settings, field) == expected


@each_setting
def test_an_environment_variable(run, monkeypatch, flag, value, field, expected):
    monkeypatch.setenv("WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_"), value)
    code, settings = run("controller")
    assert code == 0
    assert getattr(settings, field) == expected


def test_a_flag_goes_before_the_environment(run, monkeypatch):
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
    ("--wazzup-url", "api.wazzup24.com"),
    ("--wazzup-url", "ftp://api.wazzup24.com"),
    ("--wazzup-url", "https://"),
    ("--wazzup-url", "http://[::1"),
    ("--metrics-address", "8080"),
    ("--metrics-address", ":http"),
    ("--metrics-address", ":65536"),
    ("--health-address", "localhost"),
    ("--health-address", ":-1"),
    ("--min-poll-interval", "5"),
    ("--min-poll-interval", "-5s"),
    ("--progress-deadline", "soon"),
    ("--progress-deadline", "15 m"),
    ("--stale-after", "10min"),
    ("--stale-after", "1d"),
    ("--stale-after", "99999999999999h"),
    ("--namespace", "sales,support"),
    ("--namespace", "../kube-system"),
    ("--log-format", "xml"),
    ("--log-level", "loud"),
]
each_bad = pytest.mark.parametrize(
    ("flag", "value"), BAD, ids=[f"{flag[2:]}={value}" for flag, value in BAD]
)


def one_line(captured):
    assert captured.out == ""
    assert captured.err.endswith("\n")
    (line,) = captured.err.splitlines()
    return line


@each_bad
def test_a_bad_flag_ends_with_2_and_one_line(run, capsys, flag, value):
    assert run("controller", flag, value) == (2, None)
    line = one_line(capsys.readouterr())
    assert flag in line
    assert line.startswith("wazzup-operator controller: ")


@each_bad
def test_a_bad_variable_ends_with_2_and_one_line(run, capsys, monkeypatch, flag, value):
    name = "WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_")
    monkeypatch.setenv(name, value)
    assert run("controller") == (2, None)
    assert name in one_line(capsys.readouterr())


@pytest.mark.parametrize(
    ("flag", "value", "remedy"),
    [
        ("--wazzup-url", "x", "https://api.wazzup24.com"),
        ("--metrics-address", "x", ":8080"),
        ("--stale-after", "x", "5m"),
        ("--log-format", "x", "json"),
        ("--log-level", "x", "debug"),
    ],
)
def test_the_line_says_what_to_write(run, capsys, flag, value, remedy):
    run("controller", flag, value)
    assert remedy in one_line(capsys.readouterr())


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
def test_other_misuse_ends_with_2_and_one_line(run, capsys, arguments):
    assert run(*arguments) == (2, None)
    assert one_line(capsys.readouterr()).startswith("wazzup-operator")


def test_help_names_the_variables(run, capsys):
    assert run("controller", "--help")[0] == 0
    text = capsys.readouterr().out
    for flag, *_ in SETTINGS:
        assert flag in text
        assert "WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_") in text


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


def test_as_a_process():
    done = subprocess.run(
        [sys.executable, "-m", "wazzup_operator", "controller", "--stale-after", "never"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1


ELECTION = [
    ("--leader-elect-resource-name", "other", "lease", ("wazzup", "other")),
    ("--leader-elect-resource-namespace", "shop", "lease", ("shop", "wazzup-operator")),
    ("--leader-elect-lease-duration", "1m", "lease_duration", timedelta(minutes=1)),
    ("--leader-elect-renew-deadline", "12s", "renew_deadline", timedelta(seconds=12)),
    ("--leader-elect-retry-period", "500ms", "retry_period", timedelta(seconds=0.5)),
]


@pytest.mark.parametrize(("flag", "value", "field", "expected"), ELECTION)
def test_the_election(run, monkeypatch, flag, value, field, expected):
    assert getattr(run("controller", flag, value)[1].election, field) == expected
    monkeypatch.setenv("WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_"), value)
    assert getattr(run("controller")[1].election, field) == expected


def test_no_election(run, monkeypatch):
    assert run("controller", "--no-leader-elect")[1].election is None
    monkeypatch.setenv("WAZZUP_OPERATOR_LEADER_ELECT", "false")
    assert run("controller")[1].election is None
    assert run("controller", "--leader-elect")[1].election is not None


def test_no_namespace_for_the_lease(run, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(cli, "_NAMESPACE_FILE", tmp_path / "none")
    assert run("controller") == (2, None)
    assert capsys.readouterr().err == (
        "wazzup-operator controller: outside a cluster, name the Lease's namespace with"
        " --leader-elect-resource-namespace, or let this be the only replica with"
        " --no-leader-elect\n"
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
def test_an_election_that_could_not_be_kept(run, capsys, flags):
    assert run("controller", *flags) == (2, None)
    (line,) = capsys.readouterr().err.splitlines()
    assert "--leader-elect-retry-period must be at most half of" in line


# The webhook: its certificate, which the controller keeps, and its own process

KEPT = CertificateSettings(
    secret=NamespacedName("wazzup", "hook"),
    configuration="wazzup-operator",
    service="wazzup-operator-webhook",
    validity=timedelta(days=90),
)
LONGEST_NAME = ".".join(["n" * 63] * 3) + "." + "n" * 61  # 253 characters
CERTIFICATE = [
    ("--webhook-secret", "shop/pair.v1", "secret", ("shop", "pair.v1")),
    ("--webhook-secret", f"{'n' * 63}/{LONGEST_NAME}", "secret", ("n" * 63, LONGEST_NAME)),
    ("--webhook-configuration", "wz.example.org", "configuration", "wz.example.org"),
    ("--webhook-configuration", LONGEST_NAME, "configuration", LONGEST_NAME),
    ("--webhook-service", "hook-1", "service", "hook-1"),
    ("--webhook-service", "s" * 63, "service", "s" * 63),
    ("--webhook-certificate-validity", "1h", "validity", timedelta(hours=1)),
    ("--webhook-certificate-validity", "60m", "validity", timedelta(hours=1)),
    ("--webhook-certificate-validity", "8760h", "validity", timedelta(days=365)),
]


def test_no_certificate_is_kept_unless_a_secret_is_named(run):
    assert run("controller")[1].certificate is None
    assert run("controller", "--webhook-secret=wazzup/hook")[1].certificate == KEPT


@pytest.mark.parametrize(("flag", "value", "field", "expected"), CERTIFICATE)
def test_the_certificate_that_is_kept(run, monkeypatch, flag, value, field, expected):
    monkeypatch.setenv("WAZZUP_OPERATOR_WEBHOOK_SECRET", "wazzup/hook")
    wanted = replace(KEPT, **{field: expected})
    assert run("controller", flag, value)[1].certificate == wanted
    monkeypatch.setenv("WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_"), value)
    assert run("controller")[1].certificate == wanted


WEBHOOK = WebhookSettings(
    webhook_address=Address("", 9443),
    cert_dir=Path("/etc/wazzup-operator/tls"),
    min_poll_interval=timedelta(seconds=5),
    health_address=Address("", 8081),
    metrics_address=Address("", 8080),
)
WEBHOOK_SETTINGS = [
    ("--webhook-address", "127.0.0.1:8443", "webhook_address", Address("127.0.0.1", 8443)),
    ("--cert-dir", "/tls", "cert_dir", Path("/tls")),
    ("--min-poll-interval", "1m", "min_poll_interval", timedelta(minutes=1)),
    ("--health-address", ":0", "health_address", Address("", 0)),
    ("--metrics-address", "[::]:9000", "metrics_address", Address("::", 9000)),
]


def test_the_webhook_s_defaults(run):
    assert run("webhook") == (0, WEBHOOK)


@pytest.mark.parametrize(("flag", "value", "field", "expected"), WEBHOOK_SETTINGS)
def test_a_flag_of_the_webhook(run, monkeypatch, flag, value, field, expected):
    wanted = replace(WEBHOOK, **{field: expected})
    assert run("webhook", flag, value) == (0, wanted)
    monkeypatch.setenv("WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_"), value)
    assert run("webhook") == (0, wanted)


BAD_FOR_THE_WEBHOOK = [
    ("controller", "--webhook-secret", "hook"),
    ("controller", "--webhook-secret", "wazzup/"),
    ("controller", "--webhook-secret", "/hook"),
    ("controller", "--webhook-secret", "wazzup/hook/more"),
    ("controller", "--webhook-secret", "Wazzup/hook"),
    ("controller", "--webhook-secret", "waz.zup/hook"),
    ("controller", "--webhook-secret", "wazzup/Hook"),
    ("controller", "--webhook-secret", "wazzup/.."),
    ("controller", "--webhook-secret", "wazzup/hook?x"),
    ("controller", "--webhook-secret", f"wazzup/{LONGEST_NAME}n"),
    ("controller", "--webhook-configuration", "Wazzup"),
    ("controller", "--webhook-configuration", "a/b"),
    ("controller", "--webhook-configuration", "-wz"),
    ("controller", "--webhook-configuration", "wz.-x"),
    ("controller", "--webhook-configuration", "wz\n"),
    ("controller", "--webhook-service", "hook.wazzup"),
    ("controller", "--webhook-service", "hook-"),
    ("controller", "--webhook-service", "s" * 64),
    ("controller", "--webhook-certificate-validity", "59m59s"),
    ("controller", "--webhook-certificate-validity", "0s"),
    ("controller", "--webhook-certificate-validity", "8760h1s"),
    ("controller", "--webhook-certificate-validity", "90d"),
    ("webhook", "--webhook-address", "9443"),
    ("webhook", "--webhook-address", ":https"),
    ("webhook", "--min-poll-interval", "5"),
    ("webhook", "--health-address", ":65536"),
    ("webhook", "--metrics-address", "x"),
    ("webhook", "--log-format", "xml"),
]


@pytest.mark.parametrize(("command", "flag", "value"), BAD_FOR_THE_WEBHOOK)
def test_a_bad_flag_of_the_webhook_ends_with_2_and_one_line(
    run, capsys, monkeypatch, command, flag, value
):
    assert run(command, flag, value) == (2, None)
    line = one_line(capsys.readouterr())
    assert line.startswith(f"wazzup-operator {command}: ")
    assert flag in line
    name = "WAZZUP_OPERATOR_" + flag[2:].upper().replace("-", "_")
    monkeypatch.setenv(name, value)
    assert run(command) == (2, None)
    assert name in one_line(capsys.readouterr())


@pytest.mark.parametrize(
    ("flag", "value", "remedy"),
    [
        ("--webhook-certificate-validity", "59m59s", "from 1h to 8760h"),
        ("--webhook-certificate-validity", "8761h", "from 1h to 8760h"),
        ("--webhook-configuration", "A", "lower-case letters, digits, hyphens and dots"),
        ("--webhook-service", "a.b", "lower-case letters, digits and hyphens"),
        ("--webhook-secret", "a", "NAMESPACE/NAME"),
    ],
)
def test_the_line_says_what_to_write_for_the_webhook(run, capsys, flag, value, remedy):
    run("controller", flag, value)
    assert remedy in one_line(capsys.readouterr())
