"""New objects: refused, allowed with a warning, allowed."""

import json

import pytest

from tests.admission_cases import DENIED_NEW, IMPOSSIBLE, OTHER_PHONE, PHONE, TAKEN, WARNED_NEW
from tests.integration.admission.site import (
    CREATE_WAYS,
    Site,
    add_account_and_channel,
    allowed,
    allowed_silently,
    each_rule_and_way,
    refused,
)
from tests.integration.harness.api import ApiError, account, channel, eventually
from tests.integration.harness.webhook import (
    PATIENCE,
    USER,
)
from tests.integration.harness.world import World


@pytest.mark.parametrize(("rule", "way"), each_rule_and_way(DENIED_NEW, CREATE_WAYS))
def test_a_new_object_is_refused(strict: World, rule: str, way: str) -> None:
    add_account_and_channel(strict)
    body, sentence = DENIED_NEW[rule]
    refused(strict.kubectl(*CREATE_WAYS[way], stdin=json.dumps(body)), sentence)
    assert not strict.api.exists("wazzupchannel", "new")


@pytest.mark.parametrize(("rule", "way"), each_rule_and_way(WARNED_NEW, CREATE_WAYS))
def test_a_new_object_is_allowed_with_a_warning(strict: World, rule: str, way: str) -> None:
    add_account_and_channel(strict)
    body, sentence = WARNED_NEW[rule]
    done = strict.kubectl(*CREATE_WAYS[way], stdin=json.dumps(body))
    allowed(done, sentence)
    assert done.stderr.count("Warning: ") == 1
    assert strict.api.exists(body["kind"].lower(), "new") == ("--dry-run=server" not in way)


def test_a_correct_new_object_is_allowed_without_warning(strict: World) -> None:
    add_account_and_channel(strict)
    for body in (channel("new", OTHER_PHONE), account("second", pollInterval="30s")):
        allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_a_refusal_has_a_status_code_that_clients_do_not_retry(strict: World) -> None:
    with pytest.raises(ApiError) as error:
        strict.declare("new", IMPOSSIBLE)
    assert error.value.status == 422


def test_a_name_that_the_api_server_generates(strict: World) -> None:
    add_account_and_channel(strict)
    body = channel("new", PHONE)
    body["metadata"] = {"generateName": "support-"}
    refused(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)), TAKEN)
    body["spec"]["phoneNumber"] = OTHER_PHONE
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_an_object_does_not_conflict_with_itself(strict: World) -> None:
    add_account_and_channel(strict)
    body = json.dumps(channel("support", PHONE))
    done = strict.kubectl("create", "-f", "-", stdin=body)
    assert "AlreadyExists" in done.stderr
    allowed(strict.kubectl("apply", "-f", "-", stdin=body))
    allowed_silently(strict.kubectl("replace", "--force", "-f", "-", stdin=body))


def test_a_file_that_declares_a_number_twice(strict: World) -> None:
    strict.api.create(account(pollInterval="60s"))
    bodies = [channel("support", PHONE), channel("sales", PHONE), channel("shop", OTHER_PHONE)]
    done = strict.kubectl("apply", "-f", "-", stdin="\n---\n".join(map(json.dumps, bodies)))
    refused(done, TAKEN)
    names = {each["metadata"]["name"] for each in strict.api.list("wazzupchannel")}
    assert names == {"support", "shop"}


def test_a_number_in_another_spelling_is_taken(strict: World) -> None:
    add_account_and_channel(strict)
    strict.declare("older", "+525512345678")
    refused(
        strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("younger", "+5215512345678"))),
        '+5215512345678 is already declared by the WazzupChannel "older" in this namespace',
    )


def test_a_number_may_be_declared_once_per_transport(strict: World) -> None:
    add_account_and_channel(strict)
    body = channel("api", PHONE, transport="wapi")
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(body)))


def test_other_namespaces_are_not_checked(site: Site, strict: World) -> None:
    add_account_and_channel(site.world())
    strict.api.create(account(pollInterval="60s"))
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("new", PHONE))))


def test_the_annotation_replaces_allows_a_replacement(strict: World) -> None:
    add_account_and_channel(strict)
    for replaces in ("sales", ""):
        body = channel("new", PHONE, annotations={"wazzup.dev/replaces": replaces})
        refused(strict.kubectl("apply", "-f", "-", stdin=json.dumps(body)), TAKEN)
    body = channel("new", PHONE, annotations={"wazzup.dev/replaces": "support"})
    allowed_silently(strict.kubectl("apply", "-f", "-", stdin=json.dumps(body)))
    # A third object would replace two, and the annotation names one.
    refused(
        strict.kubectl(
            "apply", "-f", "-", stdin=json.dumps(body).replace('"name": "new"', '"name": "third"')
        ),
        f'{PHONE} is already declared by the WazzupChannels "new", "support" in this namespace',
        "Delete all but one of them",
    )
    allowed_silently(strict.kubectl("delete", "wazzupchannel", "support"))
    assert strict.api.exists("wazzupchannel", "new")


def test_an_object_that_is_being_deleted_does_not_hold_its_number(strict: World) -> None:
    strict.api.create(account(pollInterval="60s"))
    body = channel("support", PHONE)
    body["metadata"]["finalizers"] = ["example.org/hold"]
    strict.api.create(body)
    new = json.dumps(channel("new", PHONE))
    refused(strict.kubectl("create", "-f", "-", stdin=new), TAKEN)
    strict.api.delete("wazzupchannel", "support")
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=new))


def test_the_webhook_used_only_its_own_permissions(site: Site, strict: World) -> None:
    add_account_and_channel(strict)
    strict.kubectl("create", "-f", "-", stdin=json.dumps(channel("new", PHONE)))
    used = set()
    for line in site.plane.audit_log.read_text().splitlines():
        if f'"username":"{USER}"' in line and '"objectRef"' in line:
            entry = json.loads(line)
            assert entry["responseStatus"]["code"] in (200, 404), line
            used.add((entry["verb"], entry["objectRef"]["resource"]))
            if entry["verb"] == "list":
                assert "fieldSelector=spec.phoneNumber" in entry["requestURI"]
    assert used == {("list", "wazzupchannels"), ("get", "wazzupaccounts")}


def test_a_wrong_path_in_the_configuration_is_reported_even_if_failures_are_ignored(
    site: Site, strict: World
) -> None:
    add_account_and_channel(strict)
    new = json.dumps(channel("new", OTHER_PHONE))
    site.configuration.point(site.webhook.port, site.authority.certificate, "/hannel")
    try:
        eventually(
            lambda: strict.kubectl("create", "--dry-run=server", "-f", "-", stdin=new).returncode,
            "the API server follows the configuration",
            PATIENCE,
        )
        refused(strict.kubectl("create", "-f", "-", stdin=new), 'The webhook has no path "/hannel"')
        assert not strict.api.exists("wazzupchannel", "new")
        allowed_silently(strict.kubectl("label", "wazzupchannel", "support", "team=shop"))
        allowed_silently(strict.kubectl("delete", "wazzupchannel", "support"))
    finally:
        site.point_to_webhook()
    allowed_silently(strict.kubectl("create", "-f", "-", stdin=new))
