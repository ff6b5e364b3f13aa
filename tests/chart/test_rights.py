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
    (*SECRETS, (), ("get",)),
    (*EVENTS, (), ("create",)),
}
LEAD = {
    (*LEASES, ("wz",), ("get", "patch")),
    (*LEASES, (), ("create",)),
    (*EVENTS, (), ("create",)),
}
KEEP = {(*SECRETS, ("wz-webhook",), ("get", "patch")), (*SECRETS, (), ("create",))}
BUNDLE = {(*CONFIGURATIONS, ("wz",), ("get", "patch"))}
REVIEW = {
    ("wazzup.dev", ("wazzupchannels",), (), ("list",)),
    ("wazzup.dev", ("wazzupaccounts",), (), ("get",)),
}


def granted(rendered, account):
    """Return what a service account may do in each namespace; None is all of them."""
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


def test_in_all_namespaces(render):
    rendered = render()
    assert granted(rendered, "wz-controller") == {None: WATCH | BUNDLE, NAMESPACE: LEAD | KEEP}
    assert granted(rendered, "wz-webhook") == {None: REVIEW}


def test_in_two_namespaces_nothing_is_granted_elsewhere(render):
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


def test_secrets_of_some_names_only(render):
    may = granted(render("rbac.secretNames={one,two}"), "wz-controller")
    assert (*SECRETS, ("one", "two"), ("get",)) in may[None]
    assert (*SECRETS, (), ("get",)) not in may[None]


@pytest.mark.parametrize(
    "value",
    [
        "webhook.certificate.source=external",
        "webhook.certificate.source=cert-manager",
        "webhook.enabled=false",
    ],
)
def test_a_certificate_that_others_keep_needs_no_rights(render, value):
    may = granted(render(value), "wz-controller")
    everywhere = {rule for rules in may.values() for rule in rules}
    assert not (KEEP | BUNDLE) & everywhere


@pytest.mark.parametrize("watched", [[None], ["a", "b"]])
@pytest.mark.parametrize("process", ["controller", "webhook"])
def test_what_is_granted_is_what_was_asked_for(render, process, watched):
    values = [f"watchNamespaces={{{','.join(watched)}}}"] if all(watched) else []
    rendered = render(*values)
    expected = {right[1:] for right in listed() if right.process == process}
    for namespace in watched:
        assert set(spelled(granted(rendered, f"wz-{process}"), namespace)) == expected


def spelled(may, watched):
    """Yield what is granted, in the list's words; of the watched namespaces one is looked at."""
    for where, rules in may.items():
        for group, resources, names, verbs in rules:
            if where == NAMESPACE:
                scope = "own"
            elif where is None and names:
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


def test_none_is_made_where_somebody_else_makes_them(render):
    rendered = render("rbac.create=false")
    assert not {kind for kind in rendered.kinds() if "Role" in kind}
    rendered = render("rbac.aggregateClusterRoles=false")
    assert rendered.names("ClusterRole") == ["wz-certificate", "wz-controller", "wz-webhook"]


def test_people_get_the_kinds_with_the_roles_that_they_have(render):
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


def test_each_rule_of_a_process_has_its_reason_above_it():
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
LEASES_OF = {"resource": "leases", "apiGroup": "coordination.k8s.io"}


def entry(user, verb, about, agent="aiohttp", uri="/", code=200):
    return {
        "user": {"username": user},
        "verb": verb,
        "requestURI": uri,
        "userAgent": agent,
        "objectRef": about,
        "responseStatus": {"code": code},
    }


@pytest.fixture
def audit_log(tmp_path):
    """Write entries as an API server does; one that is killed cuts a line off."""

    def audit_log(*entries):
        file = tmp_path / "audit.log"
        file.write_text('{"user": {"use\n' + "".join(f"{json.dumps(each)}\n" for each in entries))
        return file

    return audit_log


@pytest.mark.parametrize(
    ("user", "about", "right"),
    [
        (
            CONTROLLER,
            {"resource": "secrets", "namespace": "shop", "name": "wazzup"},
            ("controller", "watched", "secrets"),
        ),
        (
            CONTROLLER,
            {**LEASES_OF, "namespace": "system", "name": "x"},
            ("controller", "own", "leases.coordination.k8s.io"),
        ),
        (
            CONTROLLER,
            {**LEASES_OF, "namespace": "default", "name": "x"},
            ("controller", "watched", "leases.coordination.k8s.io"),
        ),
        (
            "certificate-keeper",
            {"resource": "secrets", "namespace": "any", "name": "x"},
            ("controller", "own", "secrets"),
        ),
        (
            "certificate-keeper",
            {"resource": "validatingwebhookconfigurations", "name": "x"},
            ("controller", "cluster", "validatingwebhookconfigurations"),
        ),
        (
            "system:serviceaccount:system:wz-webhook",
            {"resource": "wazzupaccounts", "apiGroup": "wazzup.dev", "subresource": "status"},
            ("webhook", "watched", "wazzupaccounts.wazzup.dev/status"),
        ),
    ],
)
def test_what_was_asked_for_is_read_from_the_audit_log(audit_log, user, about, right):
    assert asked(audit_log(entry(user, "get", about, code=403))) == {Right(*right, "get")}


@pytest.mark.parametrize(
    "other",
    [
        entry("admin", "delete", {"resource": "secrets"}),
        entry("system:serviceaccount:system:wz-check", "create", {"resource": "secrets"}),
        entry(CONTROLLER, "delete", {"resource": "secrets"}, agent=""),
        entry("system:serviceaccount:system:wz-webhook", "get", {}, uri="/apis/wazzup.dev/v1"),
    ],
    ids=["another user", "another account", "a test", "discovery"],
)
def test_what_the_processes_did_not_ask_for_is_left_out(audit_log, other):
    assert asked(audit_log(other)) == set()


def test_a_path_that_is_not_open_to_everybody_is_found(audit_log):
    with pytest.raises(AssertionError, match="not open to everybody: /logs"):
        asked(audit_log(entry("system:serviceaccount:system:wz-webhook", "get", {}, uri="/logs")))


def test_what_is_not_on_the_list_fails_the_run(audit_log):
    recorder = Recorder()
    recorder.look(audit_log(entry(CONTROLLER, "patch", {**LEASES_OF, "namespace": "system"})))
    more = entry(
        "system:serviceaccount:system:wz-webhook",
        "list",
        {"resource": "secrets", "namespace": "shop"},
    )
    with pytest.raises(AssertionError, match="webhook watched secrets list"):
        recorder.look(audit_log(more))
    assert recorder.finish() is None


def test_permissions_are_written_and_a_difference_is_reported(audit_log, tmp_path):
    expected, output = tmp_path / "expected.yaml", tmp_path / "build" / "rights.yaml"
    expected.write_text("webhook: {watched: {secrets: [get]}}")
    recorder = Recorder(expected, output=output)
    for verb in ("patch", "get", "get"):
        about = {**LEASES_OF, "namespace": "system"}
        recorder.look(audit_log(entry(CONTROLLER, verb, about)))
    assert f"{output} differs from {expected}" in (recorder.finish() or "")
    assert yaml.safe_load(output.read_text()) == {
        "controller": {"own": {"leases.coordination.k8s.io": ["get", "patch"]}}
    }
    expected.write_text(output.read_text())
    assert recorder.finish() is None
