"""What the two processes may do: exactly this, wherever it is granted."""

import pytest

from tests.chart.conftest import CHART, NAMESPACE

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
    ("values", "gone"),
    [
        (("settings.leaderElect=false", "controller.replicaCount=1"), LEAD),
        (("webhook.keeper.enabled=false",), KEEP | BUNDLE),
        (("webhook.enabled=false",), KEEP | BUNDLE),
    ],
)
def test_what_is_switched_off_needs_no_rights(render, values, gone):
    may = granted(render(*values), "wz-controller")
    everywhere = {rule for rules in may.values() for rule in rules}
    assert not (gone - {(*EVENTS, (), ("create",))}) & everywhere


def test_names_that_are_set_are_the_names_that_are_granted(render):
    rendered = render(
        "settings.leaderElectResourceName=lease",
        "settings.leaderElectResourceNamespace=leases",
        "settings.webhookSecret=tls",
        "settings.webhookConfiguration=hooks",
    )
    may = granted(rendered, "wz-controller")
    assert (*LEASES, ("lease",), ("get", "patch")) in may["leases"]
    assert (*SECRETS, ("tls",), ("get", "patch")) in may[NAMESPACE]
    assert (*CONFIGURATIONS, ("hooks",), ("get", "patch")) in may[None]


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
