"""The effects of the chart's values."""

import json

import pytest
import yaml

from dev.controlplane.binaries import HELM
from tests.chart.rendered import CHART, NAMESPACE, RELEASE, VALUES

PROCESSES = ["controller", "webhook"]


def test_helm_has_the_pinned_version(run):
    assert run("version", "--short").stdout.startswith(f"v{HELM.version}")


def test_kubernetes_before_1_32_is_refused(run):
    def of(version):
        return run("template", RELEASE, CHART, f"--kube-version={version}")

    assert "requires kubeVersion" in of("1.31.14").stderr
    assert of("1.32.0-rc.0").returncode == 0
    assert of("1.36.3-eks-1").returncode == 0


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_two_renders_are_equal_to_the_byte(template, file):
    first, second = (template(files=[file]) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_helm_lints_it_without_a_warning(run, file):
    done = run("lint", "--strict", CHART, f"--values={file}")
    assert done.returncode == 0, done.stdout
    assert "[WARNING]" not in done.stdout


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_every_object_has_labels_and_the_right_scope(render, file):
    rendered = render(files=(file,))
    cluster = ("ClusterRole", "CustomResource", "Validating")
    for each in rendered.objects:
        metadata = each["metadata"]
        assert ("namespace" in metadata) is not each["kind"].startswith(cluster), each["kind"]
        assert metadata["labels"]["app.kubernetes.io/instance"] == RELEASE
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "Helm"
        assert metadata["labels"]["app.kubernetes.io/version"] == "0.2.0"
        if file.name.startswith("everything"):
            assert metadata["labels"]["team"] == "support"


@pytest.mark.parametrize("file", VALUES, ids=lambda file: file.name)
def test_every_selector_matches_one_component(render, file):
    rendered = render(files=(file,))
    pods = [
        (each["metadata"]["name"], each["spec"]["template"]["metadata"]["labels"])
        for each in rendered.all("Deployment")
    ]

    def found(selector):
        return [name for name, labels in pods if selector.items() <= labels.items()]

    for kind, path in {
        "Deployment": ("selector", "matchLabels"),
        "Service": ("selector",),
        "PodDisruptionBudget": ("selector", "matchLabels"),
        "NetworkPolicy": ("podSelector", "matchLabels"),
    }.items():
        for each in rendered.all(kind):
            selector = each["spec"]
            for key in path:
                selector = selector[key]
            assert len(found(selector)) == 1, (kind, each["metadata"]["name"])


@pytest.mark.parametrize("process", PROCESSES)
def test_pods_are_hardened(render, process):
    pod = render().pod(f"wz-{process}")
    container = render().container(f"wz-{process}")
    assert pod["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["enableServiceLinks"] is False
    assert "cpu" not in container["resources"]["limits"]


def test_an_annotation_replaces_the_chart_s_own(render):
    key = "kubectl.kubernetes.io/default-container"
    rendered = render("podAnnotations.kubectl\\.kubernetes\\.io/default-container=istio-proxy")
    for process in PROCESSES:
        pod = rendered.one("Deployment", f"wz-{process}")["spec"]["template"]
        assert pod["metadata"]["annotations"] == {key: "istio-proxy"}
        pod = render().one("Deployment", f"wz-{process}")["spec"]["template"]
        assert pod["metadata"]["annotations"] == {key: process}


def test_two_replicas_each_spread_and_with_a_disruption_budget(render):
    for process in PROCESSES:
        deployment = render().one("Deployment", f"wz-{process}")
        labels = deployment["spec"]["selector"]["matchLabels"]
        assert deployment["spec"]["replicas"] == 2
        (spread,) = render().pod(f"wz-{process}")["topologySpreadConstraints"]
        assert spread["labelSelector"] == {"matchLabels": labels}
        assert spread["topologyKey"] == "kubernetes.io/hostname"
        budget = render().one("PodDisruptionBudget", f"wz-{process}")["spec"]
        assert budget["maxUnavailable"] == 1
        assert budget["selector"] == {"matchLabels": labels}


def test_helm_test_calls_the_webhook_only_if_it_reviews_everything(render):
    def asks(*values):
        (container,) = render(*values).one("Pod", "wz-check")["spec"]["containers"]
        return {each["name"]: each["value"] for each in container["env"]}["WEBHOOK"]

    assert asks() == "true"
    assert asks("webhook.enabled=false") == "false"
    assert asks("webhook.objectSelector.matchLabels.team=a") == "false"


def test_a_spread_keeps_its_own_selector(render):
    rendered = render(files=(CHART / "ci" / "everything-values.yaml",))
    (spread,) = rendered.pod("wazzup-channels-webhook")["topologySpreadConstraints"]
    assert spread["labelSelector"] == {"matchLabels": {"team": "support"}}


def test_the_controller_knows_its_pod_s_name_and_uid(render):
    variables = render().container("wz-controller")["env"]
    assert {each["name"]: each["valueFrom"]["fieldRef"]["fieldPath"] for each in variables} == {
        "POD_NAME": "metadata.name",
        "POD_UID": "metadata.uid",
    }


def test_the_webhook_mounts_the_serving_pair_and_not_the_key_of_the_ca(render):
    (volume,) = render().pod("wz-webhook")["volumes"]
    assert volume["secret"] == {
        "secretName": "wz-webhook-certificate",
        "optional": True,
        "defaultMode": 0o440,
        "items": [{"key": key, "path": key} for key in ("tls.crt", "tls.key")],
    }
    assert "volumes" not in render().pod("wz-controller")


def test_the_chart_brings_the_secret_that_the_controller_fills(render):
    (secret,) = render().all("Secret")
    assert secret["metadata"]["name"] == "wz-webhook-certificate"
    assert secret["type"] == "Opaque"
    assert not {"data", "stringData", "immutable"} & secret.keys()
    flag = f"--webhook-secret={NAMESPACE}/wz-webhook-certificate"
    assert flag in render().container("wz-controller")["args"]


@pytest.mark.parametrize("source", ["cert-manager", "external"])
def test_a_secret_kept_elsewhere_is_only_mounted(render, source):
    rendered = render(f"webhook.certificate.source={source}")
    assert not rendered.all("Secret")
    (volume,) = rendered.pod("wz-webhook")["volumes"]
    assert volume["secret"]["secretName"] == "wz-webhook"


@pytest.mark.parametrize("process", PROCESSES)
def test_ports_probes_and_services_match_the_flags(render, process):
    container = render().container(f"wz-{process}")
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    flags = dict(word.split("=", 1) for word in container["args"] if "address=" in word)
    names = {"metrics": "metrics", "health": "health", "webhook": "https"}
    assert ports == {
        names[flag.removeprefix("--").removesuffix("-address")]: int(address.removeprefix(":"))
        for flag, address in flags.items()
    }
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        assert container[probe]["httpGet"]["port"] == "health"
    service = render().one("Service", {"controller": "wz-metrics"}.get(process, "wz-webhook"))
    for port in service["spec"]["ports"]:
        assert port["targetPort"] in ports
        assert port["port"] == {"https": 443}.get(port["name"], ports["metrics"])


HOST_NETWORK = CHART / "ci" / "host-network-values.yaml"


def test_the_webhook_can_use_the_network_of_its_node(render):
    rendered = render(files=(HOST_NETWORK,))
    pod = rendered.pod("wz-webhook")
    assert pod["hostNetwork"] is True
    assert pod["dnsPolicy"] == "Default"
    container = rendered.container("wz-webhook")
    assert {port["name"]: port["containerPort"] for port in container["ports"]} == {
        "https": 10260,
        "metrics": 10261,
        "health": 10262,
    }
    assert {"--webhook-address=:10260", "--metrics-address=:10261", "--health-address=:10262"} <= {
        *container["args"]
    }
    assert "hostNetwork" not in rendered.pod("wz-controller")


def test_on_the_host_network_a_pod_is_replaced_before_the_next_starts(render):
    rendered = render("webhook.hostNetwork=true")
    assert rendered.pod("wz-webhook")["dnsPolicy"] == "ClusterFirstWithHostNet"
    # A new Pod could not start beside the one that has its ports.
    strategy = rendered.one("Deployment", "wz-webhook")["spec"]["strategy"]
    assert strategy == {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert "strategy" not in rendered.one("Deployment", "wz-controller")["spec"]
    rendered = render()
    assert "strategy" not in rendered.one("Deployment", "wz-webhook")["spec"]
    assert not {"hostNetwork", "dnsPolicy"} & rendered.pod("wz-webhook").keys()


def test_the_certificate_is_mounted_at_cert_dir(render):
    container = render().container("wz-webhook")
    (mount,) = container["volumeMounts"]
    assert f"--cert-dir={mount['mountPath']}" in container["args"]


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ((), "wazzup-operator:0.2.0"),
        (("image.tag=v2",), "wazzup-operator:v2"),
        (("image.repository=r.io/a/b",), "r.io/a/b:0.2.0"),
        ((f"image.digest=sha256:{'0' * 64}",), f"wazzup-operator:0.2.0@sha256:{'0' * 64}"),
    ],
)
def test_the_image(render, values, image):
    rendered = render(*values)
    images = {
        container["image"]
        for each in rendered.objects
        for pod in [each["spec"]["template"]["spec"] if each["kind"] == "Deployment" else each]
        if each["kind"] in {"Deployment", "Pod"}
        for container in pod.get("spec", pod)["containers"]
    }
    assert images == {image}


def test_names_follow_the_release_or_the_overrides(render):
    def names(*values, release=RELEASE):
        return render(*values, release=release).names("Deployment")

    assert names() == ["wz-controller", "wz-webhook"]
    assert names("nameOverride=x") == ["wz-x-controller", "wz-x-webhook"]
    assert names("fullnameOverride=y") == ["y-controller", "y-webhook"]
    longest = "a" * 53
    services = render(release=longest).names("Service")
    assert services == [f"{longest}-metrics", f"{longest}-webhook"]
    assert max(map(len, services)) <= 63


@pytest.mark.parametrize("release", ["123", "on", "null", "a.b"])
def test_names_that_look_like_other_yaml_types_are_strings(render, release):
    rendered = render("watchNamespaces={off,no}", release=release, namespace="789")
    for each in rendered.objects:
        texts = [each["metadata"]["name"], *each["metadata"].get("labels", {}).values()]
        texts.append(each["metadata"].get("namespace", ""))
        assert all(isinstance(text, str) for text in texts), each["metadata"]
    for kind in ("Role", "ClusterRole"):
        for role in rendered.all(kind):
            for rule in role["rules"]:
                assert all(isinstance(name, str) for name in rule.get("resourceNames", []))
    for binding in rendered.all("RoleBinding"):
        assert {subject["namespace"] for subject in binding["subjects"]} == {"789"}


def test_crds_are_the_generated_ones_and_kept_on_uninstall(render):
    for file in sorted((CHART / "definitions").glob("*.yaml")):
        generated = yaml.safe_load(file.read_text())
        rendered = render().one("CustomResourceDefinition", generated["metadata"]["name"])
        assert rendered["spec"] == generated["spec"]
        assert rendered["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert not render("crds.enabled=false").all("CustomResourceDefinition")
    for crd in render("crds.keep=false").all("CustomResourceDefinition"):
        assert "annotations" not in crd["metadata"]


def test_cert_manager_issues_the_certificate(render):
    rendered = render(files=(CHART / "ci" / "cert-manager-values.yaml",))
    (configuration,) = rendered.all("ValidatingWebhookConfiguration")
    assert configuration["metadata"]["annotations"] == {
        "cert-manager.io/inject-ca-from": f"{NAMESPACE}/wz-webhook"
    }
    certificate = rendered.one("Certificate", "wz-webhook")["spec"]
    assert certificate["dnsNames"] == [f"wz-webhook.{NAMESPACE}.svc"]
    assert certificate["secretName"] == "wz-webhook"
    assert certificate["issuerRef"] == {"kind": "Issuer", "name": "wz-webhook"}
    (authority,) = [each for each in rendered.all("Certificate") if each["spec"].get("isCA")]
    issuer = rendered.one("Issuer", "wz-webhook")["spec"]
    assert issuer["ca"]["secretName"] == authority["spec"]["secretName"] != "wz-webhook"
    args = rendered.container("wz-controller")["args"]
    assert not [word for word in args if "webhook" in word]


def test_cert_manager_with_an_existing_issuer(render):
    rendered = render(files=(CHART / "ci" / "issuer-values.yaml",))
    assert not rendered.all("Issuer")
    (certificate,) = rendered.all("Certificate")
    assert certificate["spec"]["issuerRef"] == {"kind": "ClusterIssuer", "name": "company"}


def test_the_monitor_scrapes_every_replica_and_keeps_the_objects_namespaces(render):
    assert not render().all("ServiceMonitor")
    rendered = render("serviceMonitor.enabled=true")
    (monitor,) = rendered.all("ServiceMonitor")
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint == {"port": "metrics", "honorLabels": True}
    wanted = monitor["spec"]["selector"]["matchLabels"]
    found = {
        each["metadata"]["name"]: each["spec"]["ports"]
        for each in rendered.all("Service")
        if wanted.items() <= each["metadata"]["labels"].items()
    }
    assert found.keys() == {"wz-metrics", "wz-webhook"}
    for ports in found.values():
        assert "metrics" in {port["name"] for port in ports}


def test_rules_and_dashboards_are_the_files(render):
    assert not render().kinds() & {"PrometheusRule", "ConfigMap"}
    rendered = render("prometheusRule.enabled=true", "dashboards.enabled=true")
    rules = CHART / "files" / "rules.yaml"
    (rule,) = rendered.all("PrometheusRule")
    text = rules.read_text()
    here = f'namespace="{NAMESPACE}"'
    for record, labels in EXPECTED.items():
        text = text.replace(f"absent({record})", f"absent({record}{{{here}{labels}}})")
    assert rule["spec"] == yaml.safe_load(text)
    files = CHART.glob("files/dashboards/*.json")
    dashboards = {f"wazzup-{file.name}": file.read_text() for file in files}
    shown = {}
    for each in rendered.all("ConfigMap"):
        assert each["metadata"]["labels"]["grafana_dashboard"] == "1"
        shown |= each["data"]
    assert {name: json.loads(text) for name, text in shown.items()} == {
        name: json.loads(text) for name, text in dashboards.items()
    }


EXPECTED = {"wazzup:leaders:sum": ', name="wz"', "wazzup:webhook_certificate_left:ratio": ""}
"""What must not be absent: the record, and its labels beside the namespace."""


def expressions(rendered):
    """Return the expressions of the alerts that something is absent, by alert."""
    (rule,) = rendered.all("PrometheusRule")
    rules = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    return {each["alert"]: each["expr"] for each in rules if "absent(" in each["expr"]}


def test_the_rules_expect_what_the_release_installs(render):
    here = f'namespace="{NAMESPACE}"'
    left = "wazzup:webhook_certificate_left:ratio"
    assert expressions(render("prometheusRule.enabled=true", "fullnameOverride=channels")) == {
        "WazzupOperatorAbsent": f'absent(wazzup:leaders:sum{{{here}, name="channels"}})',
        "WazzupWebhookAbsent": f"absent({left}{{{here}}})",
    }
    here = f'cluster="east", {here}'
    rendered = render(
        "prometheusRule.enabled=true",
        "prometheusRule.cluster=east",
        "controller.extraArgs={--no-leader-elect}",
        "webhook.enabled=false",
    )
    assert expressions(rendered) == {
        "WazzupOperatorAbsent": f'absent(wazzup:leaders:sum{{{here}, name=""}})'
    }
    assert "Webhook" not in rendered.text.partition("kind: PrometheusRule")[2].partition("---")[0]


def test_alerts_have_the_labels_of_channels(render):
    labels = "settings.metricLabels={team,example.com/site}"
    rendered = render("prometheusRule.enabled=true", labels)
    assert "--metric-labels=team,example.com/site" in rendered.container("wz-controller")["args"]
    (rule,) = rendered.all("PrometheusRule")
    rules = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    (states,) = (each for each in rules if each.get("record") == "wazzup:channel_state")
    assert "reason, by, label_team, label_example_com_site) (" in states["expr"]


def test_alerts_link_to_the_published_runbooks(render):
    elsewhere = "prometheusRule.runbookUrl=https://wiki.example.com/runbooks"
    (rule,) = render("prometheusRule.enabled=true", elsewhere).all("PrometheusRule")
    rules = [each for group in rule["spec"]["groups"] for each in group["rules"]]
    links = {each["alert"]: each["annotations"] for each in rules if "alert" in each}
    url = links["WazzupNoLeader"]["runbook_url"]
    assert url == "https://wiki.example.com/runbooks#wazzupnoleader"
    assert all(each.keys() == {"summary", "description", "runbook_url"} for each in links.values())


def test_the_chart_renders_without_rules_and_dashboards(template, tmp_path):
    chart = tmp_path / "wazzup-operator"
    for file in CHART.rglob("*"):
        inside = file.relative_to(CHART)
        if file.is_file() and inside.parts[0] != "files":
            (chart / inside).parent.mkdir(parents=True, exist_ok=True)
            (chart / inside).write_bytes(file.read_bytes())
    done = template("prometheusRule.enabled=true", "dashboards.enabled=true", chart=chart)
    assert done.returncode == 0, done.stderr
    assert "PrometheusRule" not in done.stdout


def test_network_policies_allow_the_needed_ports(render):
    rendered = render("networkPolicy.enabled=true")
    policies = {name: rendered.one("NetworkPolicy", f"wz-{name}")["spec"] for name in PROCESSES}

    def ports(rules):
        return sorted(str(port["port"]) for rule in rules for port in rule["ports"])

    assert ports(policies["controller"]["ingress"]) == ["health", "metrics"]
    assert ports(policies["webhook"]["ingress"]) == ["health", "https", "metrics"]
    dns, api_server = ["53", "53", "5353", "5353"], ["443", "6443", "8443", "16443"]
    assert ports(policies["controller"]["egress"]) == sorted([*dns, *api_server, "443"])
    assert ports(policies["webhook"]["egress"]) == sorted([*dns, *api_server])
    assert not [rule for rule in policies["webhook"]["ingress"] if "from" in rule]


def test_only_the_given_peers_may_send_reviews(render):
    peers = [{"ipBlock": {"cidr": "172.16.0.0/28"}}]
    rendered = render(
        "networkPolicy.enabled=true", "networkPolicy.webhookFrom[0].ipBlock.cidr=172.16.0.0/28"
    )
    for name, limited in (("webhook", ["https"]), ("controller", [])):
        ingress = rendered.one("NetworkPolicy", f"wz-{name}")["spec"]["ingress"]
        limits = {rule["ports"][0]["port"]: rule["from"] for rule in ingress if "from" in rule}
        assert limits == dict.fromkeys(limited, peers)


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("https://wazzup.example.com", 443),
        ("http://wazzup.example.com/proxy", 80),
        ("https://wazzup.example.com:8443", 8443),
        ("http://[::1]:81/x", 81),
    ],
)
def test_egress_to_wazzup_uses_the_port_of_its_url(render, url, port):
    rendered = render("networkPolicy.enabled=true", f"settings.wazzupUrl={url}")
    *_, wazzup = rendered.one("NetworkPolicy", "wz-controller")["spec"]["egress"]
    assert wazzup == {"ports": [{"port": port, "protocol": "TCP"}]}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ((), "  kubectl create secret generic wazzup"),
        (("watchNamespaces={team-a}",), "kubectl --namespace team-a get wzacc,wzch"),
        (
            ("crds.enabled=false",),
            "docker run --rm wazzup-operator:0.2.0 crds | kubectl apply --server-side -f -",
        ),
        ((), "only Secrets with these names (rbac.secretNames): wazzup."),
        (("rbac.secretNames={other}",), "create secret generic other"),
        (("rbac.secretNames={*}",), "create secret generic wazzup"),
        ((), "It reconciles and reviews objects in all namespaces."),
        (("watchNamespaces={a,b}",), "It reconciles and reviews objects in the namespaces a, b."),
        (
            ("watchNamespaces={a,b}", "webhook.enabled=false"),
            "It reconciles objects in the namespaces a, b.",
        ),
        (
            ("webhook.objectSelector.matchLabels.team=a",),
            "It reconciles objects in all namespaces, and reviews those that"
            " webhook.namespaceSelector and webhook.objectSelector match.",
        ),
        (
            ("webhook.failurePolicy=Fail",),
            f"kubectl delete validatingwebhookconfiguration {RELEASE}",
        ),
        (("webhook.certificate.source=external",), "You maintain the webhook's certificate"),
    ],
)
def test_the_notes_name_the_next_step(run, values, sentence):
    words = [word for value in values for word in ("--set", value)]
    done = run("install", RELEASE, CHART, "--dry-run=client", f"--namespace={NAMESPACE}", *words)
    assert done.returncode == 0, done.stderr
    notes = done.stdout.partition("NOTES:")[2]
    assert sentence in notes
    assert f"rollout status deployment/{RELEASE}-controller" in notes
    _, applied = notes.split("<<'END'\n")
    bodies = list(yaml.safe_load_all(applied.partition("\nEND\n")[0]))
    kinds = [body["kind"] for body in bodies if body]
    assert kinds[-2:] == ["WazzupAccount", "WazzupChannel"]
    secret = bodies[-2]["spec"]["apiKeySecretRef"]["name"]
    assert secret == ("other" if "other" in str(values) else "wazzup")
