"""What can be set, what cannot, and what is said about it."""

import json
import re

import pytest
import yaml

from dev.generate.chart_readme import Undescribed, leaves, rows
from tests.chart.conftest import CHART, VALUES
from wazzup_operator.cli import cli

ROOT = CHART.parents[1]
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
NOT_THE_OPERATORS = {
    "webhookSecret",
    "webhookConfiguration",
    "webhookService",
    "leaderElectResourceName",
}
"""Where the chart's default is another: it follows from the release's name."""


def settings(process):
    """Yield each setting of a process: the name of its value, and the flag's default."""
    for option in cli.commands[process].params:
        flag = max(option.opts, key=len).removeprefix("--")
        head, *rest = flag.split("-")
        default = None if callable(option.default) else option.default
        yield head + "".join(word.capitalize() for word in rest), default


@pytest.mark.parametrize("process", ["controller", "webhook"])
def test_every_setting_of_the_operator_is_a_value_with_the_same_default(process):
    for name, default in settings(process):
        if name == "namespace":
            assert DEFAULTS["watchNamespaces"] == []
            continue
        assert name in DEFAULTS["settings"], f"settings.{name} is missing in values.yaml"
        value = DEFAULTS["settings"][name]
        if name in NOT_THE_OPERATORS or default is None or "UNSET" in repr(default).upper():
            assert value == ""
        else:
            assert str(value) == str(default), name


def test_every_value_under_settings_is_a_setting_of_the_operator():
    known = {name for process in ("controller", "webhook") for name, _ in settings(process)}
    assert set(DEFAULTS["settings"]) <= known


def test_each_process_gets_exactly_the_flags_that_it_knows(render):
    rendered = render("watchNamespaces={a,b}")
    for process in ("controller", "webhook"):
        name, *flags = rendered.container(f"wz-{process}")["args"]
        assert name == process
        command = cli.commands[name]
        context = command.make_context(name, list(flags))  # raises on what it does not know
        given = {flag.partition("=")[0] for flag in flags}
        known = {max(option.opts, key=len) for option in command.params}
        assert given == known, "the manifest tells every setting"
        if process == "controller":
            assert context.params["namespaces"] == ("a", "b")


def test_every_value_of_settings_arrives(render):
    default, everything = (
        render(files=(CHART / "ci" / f"{name}-values.yaml",)) for name in ("default", "everything")
    )
    for process in ("controller", "webhook"):
        before, after = (
            dict(flag.partition("=")[::2] for flag in rendered.container(name)["args"])
            for rendered, name in (
                (default, f"wz-{process}"),
                (everything, f"wazzup-channels-{process}"),
            )
        )
        unmoved = {flag for flag, value in before.items() if after[flag] == value}
        assert unmoved <= {process, "--leader-elect"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["colour=red"], "additional properties 'colour' not allowed"),
        (["controller.replicas=3"], "at '/controller': additional properties 'replicas'"),
        (["settings.wazzupURL=http://x"], "additional properties 'wazzupURL' not allowed"),
        (["webhook.certManager.issuer=x"], "additional properties 'issuer' not allowed"),
        (["controller.replicaCount=two"], "got string, want integer"),
        (["controller.livenessProbe.httpGet.port=1"], "additional properties 'httpGet'"),
        (["controller=null"], "missing property 'controller'"),
        (["settings.logLevel=null"], "at '/settings': missing property 'logLevel'"),
        (["rbac.secretNames=null"], "at '/rbac': missing property 'secretNames'"),
        (["watchNamespaces=team-a"], "got string, want array"),
        (["watchNamespaces={Team}"], "at '/watchNamespaces/0': 'Team' does not match"),
        (["watchNamespaces={a,a}"], "at '/watchNamespaces'"),
        (["settings.minPollInterval=5"], "at '/settings/minPollInterval'"),
        (["settings.minPollInterval=5 minutes"], "at '/settings/minPollInterval'"),
        (["settings.metricsAddress=8080"], "at '/settings/metricsAddress'"),
        (["settings.logLevel=loud"], "value must be one of 'debug', 'info', 'warning', 'error'"),
        (["settings.healthAddress=127.0.0.1:8081"], "at '/settings/healthAddress'"),
        (["settings.healthAddress=:99999"], "at '/settings/healthAddress'"),
        (["settings.healthAddress=:9443"], "settings.healthAddress and settings.webhookAddress"),
        (
            [
                "settings.leaderElect=false",
                "controller.replicaCount=1",
                "controller.strategy.type=RollingUpdate",
            ],
            "run side by side",
        ),
        (["settings.healthAddress=:8080"], "both have the port 8080"),
        (["webhook.failurePolicy=Perhaps"], "value must be one of 'Ignore', 'Fail'"),
        (["webhook.timeoutSeconds=31"], "maximum: got 31, want 30"),
        (["image.digest=latest"], "at '/image/digest'"),
        (["image.pullPolicy=Sometimes"], "at '/image/pullPolicy'"),
        (["simulator.channels[0].phone=+44"], "at '/simulator/channels/0/phone'"),
        (
            [
                "controller.podDisruptionBudget.minAvailable=1",
                "controller.podDisruptionBudget.maxUnavailable=0",
            ],
            "controller.podDisruptionBudget has minAvailable and maxUnavailable",
        ),
        (
            [
                "webhook.podDisruptionBudget.minAvailable=0",
                "webhook.podDisruptionBudget.maxUnavailable=50%",
            ],
            "webhook.podDisruptionBudget has minAvailable and maxUnavailable",
        ),
        (
            ["webhook.failurePolicy=Fail", "webhook.replicaCount=1"],
            "webhook.failurePolicy is Fail with webhook.replicaCount=1",
        ),
        (["webhook.certManager.enabled=true"], "set webhook.keeper.enabled=false"),
        (
            ["webhook.enabled=false", "webhook.certManager.enabled=true"],
            "there is no webhook that needs a certificate",
        ),
        (["settings.leaderElect=false"], "2 controllers would write the same statuses"),
        (["serviceMonitor.enabled=true", "podMonitor.enabled=true"], "counted twice"),
        (
            ["simulator.enabled=true", "settings.wazzupUrl=https://x.example.com"],
            "settings.wazzupUrl names another Wazzup",
        ),
        (
            ["webhook.serviceAccount.create=false"],
            "name an existing one in webhook.serviceAccount.name",
        ),
        (["commonLabels.app\\.kubernetes\\.io/name=x"], "by which Services and Deployments"),
    ],
)
def test_what_cannot_be_ends_with_a_sentence(refuse, values, sentence):
    said = refuse(*values)
    assert sentence in said
    assert len(said.splitlines()) <= 5, said


def test_what_may_be_missing_is_left_out_and_leaves_no_trace(template):
    """Everything else is required: null, or values of an older chart, end with a sentence."""
    missing = [f"{'.'.join(path)}=null" for path in may_be_missing(SCHEMA, DEFAULTS)]
    assert {"controller.startupProbe=null", "webhook.affinity=null"} <= set(missing)
    switches = ("networkPolicy", "prometheusRule", "dashboards", "simulator")
    for monitor in ("serviceMonitor", "podMonitor"):
        on = [f"{switch}.enabled=true" for switch in (*switches, monitor)]
        done = template(*on, *missing)
        assert done.returncode == 0, done.stderr
        assert "<no value>" not in done.stdout
        assert all(yaml.safe_load_all(done.stdout))


def may_be_missing(schema, values, path=()):
    """Yield the path of each value that the schema does not require."""
    for key, value in values.items():
        below = schema["properties"][key]
        while "$ref" in below:
            below = SCHEMA["$defs"][below["$ref"].rpartition("/")[2]]
        if key not in schema["required"]:
            yield (*path, key)
        elif "required" in below:
            yield from may_be_missing(below, value, (*path, key))


def test_a_chart_around_this_one_may_have_global_values(render):
    assert render("global.storageClass=fast").objects


def schema_paths(schema, path=()):
    for key, below in schema.get("properties", {}).items():
        while "$ref" in below:
            below = SCHEMA["$defs"][below["$ref"].rpartition("/")[2]]
        if "properties" in below:
            assert below["additionalProperties"] is False, (*path, key)
            yield from schema_paths(below, (*path, key))
        else:
            yield (*path, key)


SCHEMA = json.loads((CHART / "values.schema.json").read_text())


def test_the_schema_knows_exactly_the_values_that_there_are():
    known = set(schema_paths(SCHEMA))
    for path in leaves(DEFAULTS):
        lengths = range(1, len(path) + 1)
        assert any(path[:length] in known for length in lengths) or not at(DEFAULTS, path), path
    for path in known - {("global",)}:
        value = DEFAULTS
        optional = len(path) > 1 and (path[-2].endswith("Probe") or path[-2] == "issuerRef")
        for key in path[:-1] if optional else path:
            assert key in value, f"{'.'.join(path)} is in the schema and not in values.yaml"
            value = value[key]


def test_every_switch_is_moved_by_a_file_of_the_matrix():
    matrix = [yaml.safe_load(file.read_text()) for file in VALUES]
    for path in leaves(DEFAULTS):
        if path[-1] == "enabled":
            assert any(at(values, path) is (not at(DEFAULTS, path)) for values in matrix), path


def at(values, path):
    for key in path:
        values = values.get(key, {})
    return values


def test_a_value_without_a_comment_is_told():
    with pytest.raises(Undescribed, match=r"b\.c has no comment"):
        list(rows("# -- An A.\na: 1\nb:\n  c: 2\n"))


def test_chart_image_and_operator_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (project,) = re.findall(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())
    (image,) = re.findall(r"(?m)^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text())
    assert chart["version"] == chart["appVersion"] == project == image


def test_the_simulator_has_what_the_examples_declare():
    examples = [
        body
        for file in sorted((ROOT / "examples").glob("*.yaml"))
        for body in yaml.safe_load_all(file.read_text())
    ]
    (secret,) = [body for body in examples if body["kind"] == "Secret"]
    assert DEFAULTS["simulator"]["apiKey"] == secret["stringData"]["apiKey"]
    declared = {
        (body["spec"]["phoneNumber"].lstrip("+"), body["spec"].get("transport", "whatsapp"))
        for body in examples
        if body["kind"] == "WazzupChannel"
    }
    added = {
        (channel["phone"], channel.get("transport", "whatsapp"))
        for channel in DEFAULTS["simulator"]["channels"]
    }
    assert declared == added
