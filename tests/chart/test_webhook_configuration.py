"""The webhook configuration as helm renders it."""

import pytest

KIND = "ValidatingWebhookConfiguration"


@pytest.fixture
def webhooks(render):
    def webhooks(*values):
        (configuration,) = render(*values).all(KIND)
        return configuration["webhooks"]

    return webhooks


def test_no_ca_bundle_is_rendered(webhooks):
    assert not [webhook for webhook in webhooks() if "caBundle" in webhook["clientConfig"]]


def test_it_covers_creation_and_update_of_both_kinds(webhooks):
    assert [webhook["name"] for webhook in webhooks()] == [
        "channel.wazzup.dev",
        "account.wazzup.dev",
    ]
    for webhook, kind in zip(webhooks(), ("channel", "account"), strict=True):
        assert webhook["rules"] == [
            {
                "apiGroups": ["wazzup.dev"],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": [f"wazzup{kind}s"],
                "scope": "Namespaced",
            }
        ]
        assert webhook["clientConfig"] == {
            "service": {
                "name": "wz-webhook",
                "namespace": "wz-system",
                "port": 443,
                "path": f"/{kind}",
            }
        }
        assert webhook["failurePolicy"] == "Ignore"
        assert webhook["timeoutSeconds"] == 3
        assert webhook["sideEffects"] == "None"
        assert webhook["matchPolicy"] == "Equivalent"


def test_failure_policy_and_timeout_are_values(webhooks):
    found = webhooks("webhook.failurePolicy=Fail", "webhook.timeoutSeconds=5")
    assert {webhook["failurePolicy"] for webhook in found} == {"Fail"}
    assert {webhook["timeoutSeconds"] for webhook in found} == {5}


def test_only_watched_namespaces_are_reviewed(webhooks):
    assert all("namespaceSelector" not in webhook for webhook in webhooks())
    for webhook in webhooks("watchNamespaces={a,b}"):
        assert webhook["namespaceSelector"] == {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["a", "b"]}
            ]
        }
    for webhook in webhooks("watchNamespaces={a}", "webhook.namespaceSelector.matchLabels.x=y"):
        assert webhook["namespaceSelector"] == {"matchLabels": {"x": "y"}}


def test_a_disabled_webhook_leaves_nothing(render):
    rendered = render("webhook.enabled=false")
    assert not rendered.all(KIND)
    assert rendered.names("Deployment") == ["wz-controller"]
    assert rendered.names("Service") == ["wz-metrics"]
    assert rendered.names("PodDisruptionBudget") == ["wz-controller"]
    assert not [name for name in rendered.names("ClusterRole") if "webhook" in name]
    assert not [word for word in rendered.container("wz-controller")["args"] if "webhook" in word]
    assert rendered.names("Role") == ["wz-check", "wz-leader-election"]
