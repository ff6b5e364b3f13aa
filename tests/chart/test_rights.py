"""The chart grants each process the permissions in rights.yaml, no more and no less."""

import json

import pytest
import yaml

from tests.chart.rendered import CHART, NAMESPACE
from tests.integration.harness.rights import Recorder, Right, asked, listed

OBJECTS = "wazzup.dev", ("wazzupaccounts", "wazzupchannels")
STATUSES = "wazzup.dev", ("wazzupaccounts/status", "wazzupchannels/status")
EVENTS = "events.k8s.io", ("events",)
LEASES = "coordination.k8s.io", ("leases",)
SECRETS = "", ("secrets",)
CONFIGURATIONS = "admissionregistration.k8s.io", ("validatingwebhookconfigurations",)

WATCH = {
    (*OBJECTS, (), ("list", "watch")),
    (*STATUSES, (), ("patch",)),
    (*SECRETS, ("wazzup",), ("get",)),
    (*EVENTS, (), ("create",)),
}
LEAD = {
    (*LEASES, ("wz",), ("get", "patch")),
    (*LEASES, (), ("create",)),
    (*EVENTS, (), ("create",)),
}
KEEP = {(*SECRETS, ("wz-webhook-certificate",), ("get", "patch"))}
BUNDLE = {(*CONFIGURATIONS, ("wz",), ("get", "patch"))}
REVIEW = {
    ("wazzup.dev", ("wazzupchannels",), (), ("list",)),
    ("wazzup.dev", ("wazzupaccounts",), (), ("get",)),
}


def granted(rendered, account):
    """Return a service account's permissions by namespace; None is the whole cluster."""
    may = {}
    for kind in ("Role", "ClusterRole"):
        for binding in rendered.all(f"{kind}Binding"):
            subjects = [(each["namespace"], each["name"]) for each in binding["subjects"]]
            if (NAMESPACE, account) not in subjects:
                continue
            where = binding["metadata"].get("namespace")
            (role,) = [
                each
                for each in rendered.all(binding["roleRef"]["kind"])
                if each["metadata"]["name"] == binding["roleRef"]["name"]
                and each["metadata"].get("namespace") == where
            ]
            may.setdefault(where, set()).update(map(flat, role["rules"]))
    return may


def flat(rule):
    (group,) = rule["apiGroups"]
    assert set(rule) <= {"apiGroups", "resources", "resourceNames", "verbs"}
    return (
        group,
        tuple(rule["resources"]),
        tuple(rule.get("resourceNames", ())),
        tuple(rule["verbs"]),
    )


def test_all_namespaces(render):
    rendered = render()
    assert granted(rendered, "wz-controller") == {None: WATCH | BUNDLE, NAMESPACE: LEAD | KEEP}
    assert granted(rendered, "wz-webhook") == {None: REVIEW}


def test_two_namespaces_and_nothing_elsewhere(render):
    rendered = render("watchNamespaces={a,b}")
    assert granted(rendered, "wz-controller") == {
        None: BUNDLE,
        NAMESPACE: LEAD | KEEP,
        "a": WATCH,
        "b": WATCH,
    }
    assert granted(rendered, "wz-webhook") == {"a": REVIEW, "b": REVIEW}


def test_the_releases_own_namespace_may_be_among_the_watched(render):
    may = granted(render(f"watchNamespaces={{{NAMESPACE}}}"), "wz-controller")
    assert may == {None: BUNDLE, NAMESPACE: WATCH | LEAD | KEEP}


def test_only_the_named_secrets_are_granted(render):
    may = granted(render("rbac.secretNames={one,two}"), "wz-controller")
    assert reads_secrets(may[None]) == [("one", "two")]


@pytest.mark.parametrize("names", ["*", "wazzup,*"])
def test_an_asterisk_grants_all_secrets(render, names):
    may = granted(render(f"rbac.secretNames={{{names}}}"), "wz-controller")
    assert reads_secrets(may[None]) == [()]


def reads_secrets(rules):
    """Return the resourceNames of each rule about Secrets."""
    return [names for group, resources, names, _ in rules if (group, resources) == SECRETS]


@pytest.mark.parametrize(
    "value",
    [
        "webhook.certificate.source=external",
        "webhook.certificate.source=cert-manager",
        "webhook.enabled=false",
    ],
)
def test_a_certificate_kept_elsewhere_needs_no_permissions(render, value):
    may = granted(render(value), "wz-controller")
    everywhere = {rule for rules in may.values() for rule in rules}
    assert not (KEEP | BUNDLE) & everywhere


@pytest.mark.parametrize("watched", [[None], ["a", "b"]])
@pytest.mark.parametrize("process", ["controller", "webhook"])
def test_the_granted_permissions_are_the_used_ones(render, process, watched):
    values = [f"watchNamespaces={{{','.join(watched)}}}"] if all(watched) else []
    rendered = render(*values)
    expected = {right[1:] for right in listed() if right.process == process}
    for namespace in watched:
        assert set(spelled(granted(rendered, f"wz-{process}"), namespace)) == expected


def spelled(may, watched):
    """Yield the granted permissions as in rights.yaml, for one of the watched namespaces."""
    for where, rules in may.items():
        for group, resources, names, verbs in rules:
            if where == NAMESPACE:
                scope = "own"
            elif (group, resources) == CONFIGURATIONS:
                scope = "cluster"
            elif where == watched:
                scope = "watched"
            else:
                continue
            for resource in resources:
                plural, slash, subresource = resource.partition("/")
                resource = ".".join(filter(None, (plural, group))) + slash + subresource
                for verb in verbs:
                    if scope != "watched":
                        assert len(names) == (verb != "create"), f"{verb} {resource}: {names}"
                    yield scope, resource, verb


def test_rbac_is_optional(render):
    rendered = render("rbac.create=false")
    assert not {kind for kind in rendered.kinds() if "Role" in kind}
    rendered = render("rbac.aggregateClusterRoles=false")
    assert rendered.names("ClusterRole") == ["wz-certificate", "wz-controller", "wz-webhook"]


def test_permissions_are_aggregated_to_view_edit_and_admin(render):
    view, edit = (render().one("ClusterRole", f"wz-{name}") for name in ("view", "edit"))
    assert set(map(flat, view["rules"])) == {(*OBJECTS, (), ("get", "list", "watch"))}
    assert set(map(flat, edit["rules"])) == {
        (*OBJECTS, (), ("create", "update", "patch", "delete", "deletecollection"))
    }
    prefix = "rbac.authorization.k8s.io/aggregate-to-"
    labels = [
        {key for key in role["metadata"]["labels"] if key.startswith(prefix)}
        for role in (view, edit)
    ]
    assert labels == [
        {f"{prefix}{role}" for role in ("view", "edit", "admin")},
        {f"{prefix}{role}" for role in ("edit", "admin")},
    ]


def test_each_rule_has_a_comment():
    for process in ("controller", "webhook"):
        lines = (CHART / "templates" / process / "rbac.yaml").read_text().splitlines()
        rules = [number for number, line in enumerate(lines) if line.lstrip().startswith("- apiG")]
        assert rules
        for number in rules:
            assert lines[number - 1].lstrip().startswith("# "), lines[number]


def test_existing_service_accounts_are_bound(render):
    rendered = render(
        "controller.serviceAccount.create=false", "controller.serviceAccount.name=mine"
    )
    assert rendered.names("ServiceAccount") == ["wz-check", "wz-webhook"]
    assert rendered.pod("wz-controller")["serviceAccountName"] == "mine"
    assert granted(rendered, "mine")[None] == WATCH | BUNDLE


CONTROLLER = "system:serviceaccount:system:wz-controller"
WEBHOOK = "system:serviceaccount:system:wz-webhook"
LEASE = {"resource": "leases", "apiGroup": "coordination.k8s.io", "namespace": "system"}


def entry(user, verb, about, agent="aiohttp", uri="/"):
    return {
        "user": {"username": user},
        "verb": verb,
        "requestURI": uri,
        "userAgent": agent,
        "objectRef": about,
    }


@pytest.fixture
def audit_log(tmp_path):
    """Write an audit log that begins with a truncated line."""

    def audit_log(*entries):
        file = tmp_path / "audit.log"
        file.write_text('{"user": {"use\n' + "".join(f"{json.dumps(each)}\n" for each in entries))
        return file

    return audit_log


def test_permissions_are_read_from_the_audit_log(audit_log):
    accounts = {"resource": "wazzupaccounts", "apiGroup": "wazzup.dev", "subresource": "status"}
    used = [
        entry(CONTROLLER, "get", {"resource": "secrets", "namespace": "shop"}),
        entry(CONTROLLER, "get", LEASE),
        entry("certificate-keeper", "patch", {"resource": "secrets", "namespace": "any"}),
        entry("certificate-keeper", "get", {"resource": "validatingwebhookconfigurations"}),
        entry(WEBHOOK, "get", accounts),
    ]
    others = [
        entry("admin", "delete", {"resource": "secrets"}),
        entry("system:serviceaccount:system:wz-check", "create", {"resource": "secrets"}),
        entry(CONTROLLER, "delete", {"resource": "secrets"}, agent=""),  # a test
        entry(WEBHOOK, "get", {}, uri="/apis/wazzup.dev/v1"),  # discovery
    ]
    assert asked(audit_log(*used, *others)) == {
        Right("controller", "watched", "secrets", "get"),
        Right("controller", "own", "leases.coordination.k8s.io", "get"),
        Right("controller", "own", "secrets", "patch"),
        Right("controller", "cluster", "validatingwebhookconfigurations", "get"),
        Right("webhook", "watched", "wazzupaccounts.wazzup.dev/status", "get"),
    }


def test_an_unexpected_permission_fails_the_run(audit_log):
    secrets = {"resource": "secrets", "namespace": "shop"}
    with pytest.raises(AssertionError, match="webhook watched secrets list"):
        Recorder().look(audit_log(entry(WEBHOOK, "list", secrets)))


def test_permissions_are_written_and_a_difference_is_reported(audit_log, tmp_path):
    expected, output = tmp_path / "expected.yaml", tmp_path / "build" / "rights.yaml"
    expected.write_text("webhook: {watched: {secrets: [get]}}")
    recorder = Recorder(expected, output=output)
    recorder.look(audit_log(entry(CONTROLLER, "patch", LEASE), entry(CONTROLLER, "get", LEASE)))
    assert f"{output} differs from {expected}" in (recorder.finish() or "")
    assert yaml.safe_load(output.read_text()) == {
        "controller": {"own": {"leases.coordination.k8s.io": ["get", "patch"]}}
    }
    expected.write_text(output.read_text())
    assert recorder.finish() is None
