"""Values, their schema and the errors about them."""

import copy
import json
import re
import shutil

import pytest
import yaml

from dev.generate.chart_readme import Undescribed, leaves, rows
from tests.chart.rendered import CHART, VALUES
from wazzup_operator.cli import cli

ROOT = CHART.parents[1]
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
EVERYTHING = yaml.safe_load((CHART / "ci" / "everything-values.yaml").read_text())
CHOSEN_BY_THE_CHART = {
    "--webhook-secret",
    "--webhook-configuration",
    "--webhook-service",
    "--leader-elect",
    "--leader-elect-resource-name",
    "--leader-elect-resource-namespace",
    "--metrics-address",
    "--health-address",
    "--webhook-address",
    "--cert-dir",
}
"""Flags set by the manifests, which no value changes."""

OF_PARENT_CHARTS = {"global", "enabled"}
"""Values that a parent chart sets for Helm."""

LEFT_AT_THE_DEFAULT = {
    "--leader-elect-lease-duration",
    "--leader-elect-renew-deadline",
    "--leader-elect-retry-period",
    "--webhook-certificate-validity",
}
"""Flags that no manifest sets."""


def defaults(process):
    """Return the default of each flag of a process."""
    return {max(option.opts, key=len): option.default for option in cli.commands[process].params}


def flag(name):
    return "--" + re.sub("[A-Z]", lambda upper: f"-{upper[0].lower()}", name)


def spelled(value):
    """Return a value as the flag takes it."""
    return ",".join(value) if isinstance(value, list) else str(value)


def arguments(render, process, *values, **kwargs):
    name, *flags = render(*values, **kwargs).container(f"wz-{process}")["args"]
    assert name == process
    return flags


def test_every_setting_is_a_flag_with_the_same_default():
    known = defaults("controller")
    for name, value in DEFAULTS["settings"].items():
        assert spelled(value) == str(known[flag(name)]), name


@pytest.mark.parametrize("process", ["controller", "webhook"])
def test_each_process_gets_its_flags(render, process):
    flags = arguments(render, process, "watchNamespaces={a,b}", "settings.metricLabels={team}")
    command = cli.commands[process]
    context = command.make_context(process, list(flags))  # raises on an unknown flag
    given = {flag.partition("=")[0] for flag in flags}
    assert given == set(defaults(process)) - LEFT_AT_THE_DEFAULT
    by_value = {flag(name) for name in DEFAULTS["settings"]} | {"--namespace"}
    assert given <= by_value | CHOSEN_BY_THE_CHART
    if process == "controller":
        assert context.params["namespaces"] == ("a", "b")


@pytest.mark.parametrize("process", ["controller", "webhook"])
def test_every_setting_becomes_a_flag_and_null_leaves_it_out(render, process):
    for name in DEFAULTS["settings"]:
        if flag(name) not in defaults(process):
            continue
        moved = EVERYTHING["settings"][name]
        value = f"{{{spelled(moved)}}}" if isinstance(moved, list) else moved
        given = arguments(render, process, f"settings.{name}={value}")
        assert f"{flag(name)}={spelled(moved)}" in given
        unset = arguments(render, process, f"settings.{name}=null")
        assert not [each for each in unset if each.startswith(flag(name))]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["colour=red"], "additional properties 'colour' not allowed"),
        (["controller.replicaCount=two"], "got string, want null or integer"),
        (["controller=null"], "missing property 'controller'"),
        (["webhook.failurePolicy=null"], "at '/webhook': missing property 'failurePolicy'"),
        (["image.repository="], "at '/image/repository'"),
        (["watchNamespaces=team-a"], "got string, want null or array"),
        (["watchNamespaces={a,a}"], "at '/watchNamespaces'"),
        (["settings.wazzupUrl=api.wazzup24.com"], "at '/settings/wazzupUrl'"),
        (["settings.minPollInterval=5"], "at '/settings/minPollInterval'"),
        (["settings.channelSeriesLimit=-1"], "at '/settings/channelSeriesLimit'"),
        (["settings.logLevel=loud"], "one of 'debug', 'info', 'warning', 'error', <nil>"),
        (["webhook.timeoutSeconds=31"], "maximum: got 31, want 30"),
        (["webhook.certificate.source=vault"], "one of 'controller', 'cert-manager', 'external'"),
        (["image.digest=latest"], "at '/image/digest'"),
        (["controller.podDisruptionBudget.maxUnavailable=0"], "minimum: got 0, want 1"),
        (["webhook.podDisruptionBudget.maxUnavailable=half"], "'half' does not match pattern"),
        (["serviceMonitor.interval=30"], "at '/serviceMonitor/interval'"),
        (
            ["webhook.failurePolicy=Fail", "webhook.replicaCount=1"],
            "webhook.failurePolicy is Fail with webhook.replicaCount=1",
        ),
        (
            ["webhook.serviceAccount.create=false"],
            "set webhook.serviceAccount.name to an existing service account",
        ),
        (
            ["rbac.secretNames={}"],
            "rbac.secretNames is empty: the operator could read no API key. Set it to the names of"
            ' the Secrets with API keys, or to ["*"] for all Secrets.',
        ),
        (
            ["rbac.secretNames={wazzup,team-*}"],
            'rbac.secretNames contains "team-*", which cannot be the name of a Secret. Write'
            ' names in full, or set it to ["*"] for all Secrets.',
        ),
        (["rbac.secretNames=null"], "at '/rbac': missing property 'secretNames'"),
        (
            ["webhook.ports.https=8080"],
            "webhook.ports.https and webhook.ports.metrics are both 8080: give each its own"
            " number.",
        ),
        (["webhook.ports.health=9443"], "webhook.ports.https and webhook.ports.health are both"),
        (["webhook.ports.health=8080"], "webhook.ports.metrics and webhook.ports.health are both"),
        (
            ["webhook.hostNetwork=true", "webhook.ports.https=10250"],
            "webhook.ports.https is 10250, which the kubelet or kube-proxy uses on every node:"
            " with webhook.hostNetwork, set another port.",
        ),
        (["webhook.ports.https=443"], "at '/webhook/ports/https': minimum: got 443, want 1,024"),
        (
            ["webhook.dnsPolicy=ClusterFirstWithHostNet"],
            "webhook.dnsPolicy=ClusterFirstWithHostNet does nothing without webhook.hostNetwork."
            " Set webhook.hostNetwork=true, or leave webhook.dnsPolicy empty.",
        ),
        (["webhook.dnsPolicy=None"], "at '/webhook/dnsPolicy'"),
        (
            ["webhook.hostNetwork=true", "networkPolicy.webhookFrom[0].ipBlock.cidr=10.0.0.0/8"],
            "networkPolicy.webhookFrom does nothing with webhook.hostNetwork, because"
            " NetworkPolicies do not apply to a node's network. Limit access with the nodes'"
            " firewall, and leave networkPolicy.webhookFrom empty.",
        ),
        (["commonLabels.app\\.kubernetes\\.io/name=x"], "which Services and Deployments use"),
        (["podLabels.app\\.kubernetes\\.io/component=x"], "podLabels must not set"),
        (
            [
                "webhook.extraEnv[0].name=WAZZUP_OPERATOR_LOG_LEVEL",
                "webhook.extraEnv[0].value=debug",
            ],
            "webhook.extraEnv sets WAZZUP_OPERATOR_LOG_LEVEL, which the chart's flags override. Use"
            " settings, or --log-level in webhook.extraArgs.",
        ),
        (["enabled=false"], "give this dependency a condition such as wazzup-operator.enabled"),
    ],
)
def test_invalid_values_are_refused(refuse, values, sentence):
    error = refuse(*values)
    assert sentence in error
    assert len(error.splitlines()) <= 5, error


ON = [f"{switch}.enabled=true" for switch in ("networkPolicy", "serviceMonitor", "dashboards")]
ON += ["prometheusRule.enabled=true"]


def paths(schema, path=()):
    """Yield path and schema of each value."""
    for key, below in schema.get("properties", {}).items():
        if "properties" in below:
            assert below["additionalProperties"] is False, (*path, key)
            yield from paths(below, (*path, key))
        else:
            yield (*path, key), below


def optional(schema=SCHEMA, path=()):
    """Yield the path of each optional value."""
    for key, below in schema["properties"].items():
        if key not in {*schema.get("required", ()), *OF_PARENT_CHARTS}:
            yield ".".join((*path, key))
        elif "properties" in below:
            yield from optional(below, (*path, key))


def nulls(body, path=()):
    """Yield the path of each null in an object."""
    if body is None:
        yield path
    elif isinstance(body, dict | list):
        for key, below in body.items() if isinstance(body, dict) else enumerate(body):
            yield from nulls(below, (*path, key))


def test_null_unsets_optional_values(template):
    unset = list(optional())
    assert {"controller.resources", "topologySpreadConstraints", "priorityClassName"} <= set(unset)
    done = template(*(f"{path}=null" for path in unset), *ON)
    assert done.returncode == 0, done.stderr
    assert "<no value>" not in done.stdout
    for body in yaml.safe_load_all(done.stdout):
        assert not list(nulls(body))


def test_the_schema_accepts_null():
    """For editors: helm removes nulls before it validates."""
    unset = set(optional())
    for path, schema in paths(SCHEMA):
        if ".".join(path) in unset:
            assert "null" in schema["type"], path
            assert None in schema.get("enum", [None]), path


@pytest.mark.parametrize(
    "path", ["crds.keep", "webhook.enabled", "controller.serviceAccount.create"]
)
def test_a_switch_cannot_be_unset(template, path):
    """Null would count as false: with crds.keep, an uninstall would delete all objects."""
    done = template(f"{path}=null")
    assert done.returncode != 0
    assert f"missing property '{path.rpartition('.')[2]}'" in done.stderr


@pytest.fixture
def parent(tmp_path):
    """A chart with this one as a dependency that a condition switches."""
    parent = tmp_path / "parent"
    shutil.copytree(CHART, parent / "charts" / "wazzup-operator")
    this = {
        "name": "wazzup-operator",
        "version": yaml.safe_load((CHART / "Chart.yaml").read_text())["version"],
        "condition": "wazzup-operator.enabled",
    }
    chart = {"apiVersion": "v2", "name": "parent", "version": "0.1.0", "dependencies": [this]}
    (parent / "Chart.yaml").write_text(yaml.safe_dump(chart))
    return parent


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_a_parent_chart_switches_it_and_has_global_values(template, parent, enabled):
    values = (f"wazzup-operator.enabled={enabled}", "global.storageClass=fast")
    done = template(*values, chart=parent)
    assert done.returncode == 0, done.stderr
    assert ("kind: Deployment" in done.stdout) is (enabled == "true")


def test_null_unsets_from_a_parent_chart(template, parent, tmp_path):
    values = {"wazzup-operator": {"topologySpreadConstraints": None, "priorityClassName": None}}
    file = tmp_path / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    done = template(files=[file], chart=parent)
    assert done.returncode == 0, done.stderr
    assert "topologySpreadConstraints" not in done.stdout


def test_the_schema_has_exactly_the_chart_s_values():
    known = dict(paths(SCHEMA))
    for name in OF_PARENT_CHARTS:
        del known[name,]
    for path in leaves(DEFAULTS):
        assert any(path[:length] in known for length in range(1, len(path) + 1)), path
    for path, schema in known.items():
        assert schema["description"], path
        assert at(DEFAULTS, path) is not MISSING, path


MISSING = object()


def at(values, path):
    for key in path:
        if not isinstance(values, dict) or key not in values:
            return MISSING
        values = values[key]
    return values


def without(values, path):
    values = copy.deepcopy(values)
    del at(values, path[:-1])[path[-1]]
    return values


@pytest.mark.parametrize(
    "path",
    [path for path, _ in paths(SCHEMA) if path[0] not in OF_PARENT_CHARTS],
    ids=".".join,
)
def test_every_value_has_an_effect_in_a_file_of_values(template, tmp_path, path):
    for file in VALUES:
        values = yaml.safe_load(file.read_text())
        if at(values, path) not in (MISSING, at(DEFAULTS, path)):
            other = tmp_path / "values.yaml"
            other.write_text(yaml.safe_dump(without(values, path)))
            if template(files=[other]).stdout != template(files=[file]).stdout:
                return
    pytest.fail("no file in ci/ sets it, or it changes nothing")


def test_a_value_without_a_comment_is_reported():
    with pytest.raises(Undescribed, match=r"b\.c has no comment"):
        list(rows("# -- An A.\na: 1\nb:\n  c: 2\n"))


def test_chart_image_and_operator_have_one_version():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    (project,) = re.findall(r'(?m)^version = "(.+)"$', (ROOT / "pyproject.toml").read_text())
    (image,) = re.findall(r"(?m)^ARG VERSION=(.+)$", (ROOT / "Dockerfile").read_text())
    assert chart["version"] == chart["appVersion"] == project == image
