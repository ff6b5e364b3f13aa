"""Changes of stored objects: refused, warned of, and what passes whatever the webhook does."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from dev.processes.port import free_port
from tests.integration.admission.site import (
    FAILED_OPEN,
    OTHER_PHONE,
    PHONE,
    SHORT_INTERVAL,
    UPDATE_WAYS,
    Site,
    _names,
    change,
    furnish,
    in_silence,
    let_in,
    refused,
    spec_of,
)
from tests.integration.harness.api import JSON, account, channel, eventually
from tests.integration.harness.webhook import IMPOSSIBLE, PATIENCE, Webhook, of_chart
from tests.integration.harness.world import World


class Changed(NamedTuple):
    """A change of a WazzupChannel's spec, and what is said of it."""

    old: JSON
    new: JSON
    sentence: str


ANOTHER = "create another WazzupChannel for the new one, and set spec.active to false here"
DENIED_CHANGES = {
    "phone-number-changed": Changed(
        {},
        {"phoneNumber": OTHER_PHONE},
        f"spec.phoneNumber cannot be changed from {PHONE}: a channel keeps its number for ever. To"
        f" use a new number, {ANOTHER} to stop using the old one.",
    ),
    "transport-changed": Changed(
        {},
        {"transport": "wapi"},
        f"spec.transport cannot be changed from whatsapp: {ANOTHER}.",
    ),
    "channel-id-changed": Changed(
        {"channelID": "one"},
        {"channelID": "two"},
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        " changes too; it is one. Put it back, or delete this object and create it anew: deleting"
        " it deletes nothing in Wazzup.",
    ),
    "channel-id-changed (taken away)": Changed(
        {"channelID": "one"},
        {},
        "spec.channelID cannot be changed or taken away once it is set, unless spec.accountRef"
        " changes too; it is one. Put it back, or delete this object and create it anew: deleting"
        " it deletes nothing in Wazzup.",
    ),
}


@pytest.mark.parametrize("way", UPDATE_WAYS)
@pytest.mark.parametrize("rule", DENIED_CHANGES)
def test_a_changed_identity_is_refused_by_the_handler_too(
    loose: World, rule: str, way: str
) -> None:
    case = DENIED_CHANGES[rule]
    old = channel("support", PHONE, **case.old)
    new = channel("support", **{"phone": PHONE} | _renamed(case.new))
    refused(change(loose, way, old, new), case.sentence)
    spec = spec_of(loose, "wazzupchannel", "support")
    assert spec["phoneNumber"] == PHONE
    assert spec.items() >= case.old.items()


@pytest.mark.parametrize("way", UPDATE_WAYS)
@pytest.mark.parametrize("fields", [{"channelID": "two"}, {}], ids=["changed", "taken away"])
def test_a_channel_id_may_change_with_the_account(
    site: Site, loose_site: Site, fields: JSON, way: str
) -> None:
    """Neither CEL nor the handler refuses it, each asked alone as well."""
    there = {"accountRef": {"name": "second"}, **fields}
    old, new = channel("support", PHONE, channelID="one"), channel("support", PHONE, **there)
    for world in (site.world(), loose_site.world()):
        world.api.create(account("second", pollInterval="60s"))
        in_silence(change(world, way, old, new))
        spec = spec_of(world, "wazzupchannel", "support")
        if "--dry-run=server" not in way:
            assert (spec["accountRef"], spec.get("channelID")) == (
                there["accountRef"],
                there.get("channelID"),
            )


def _renamed(fields: JSON) -> JSON:
    return {("phone" if key == "phoneNumber" else key): value for key, value in fields.items()}


def test_with_the_crds_as_they_are_cel_speaks_first_and_says_the_same(strict: World) -> None:
    for fields in ({"phone": OTHER_PHONE}, {"phone": PHONE, "transport": "wapi"}):
        done = change(strict, "apply", channel("support", PHONE), channel("support", **fields))
        assert done.returncode == 1
        assert "denied the request" not in done.stderr
        assert "create another WazzupChannel" in done.stderr


WARNED_CHANGES = {
    "active-switched": Changed(
        {},
        {"active": False},
        "The operator cannot switch channels: a person has to turn off this one in Wazzup.",
    ),
    "active-switched (on)": Changed(
        {"active": False},
        {"active": True},
        "The operator cannot switch channels: a person has to enable this one in Wazzup.",
    ),
    "renamed": Changed(
        {},
        {"displayName": "Support"},
        'The operator cannot rename channels: a person has to name this one "Support" in Wazzup;'
        " until then status.drift shows the difference.",
    ),
    "account-missing": Changed(
        {},
        {"channelID": "one"},
        'There is no WazzupAccount "default" in this namespace yet; until there is, nothing can be'
        " told of this channel.",
    ),
    "account-missing (the new one)": Changed(
        {},
        {"accountRef": {"name": "second"}},
        'There is no WazzupAccount "second" in this namespace yet; until there is, nothing can be'
        " told of this channel.",
    ),
}


@pytest.mark.parametrize("way", UPDATE_WAYS)
@pytest.mark.parametrize("rule", WARNED_CHANGES)
def test_a_change_that_a_person_has_to_follow_is_warned_of(
    strict: World, rule: str, way: str
) -> None:
    case = WARNED_CHANGES[rule]
    old, new = channel("support", PHONE, **case.old), channel("support", PHONE, **case.new)
    let_in(change(strict, way, old, new), case.sentence)
    dry = "--dry-run=server" in way
    assert (
        spec_of(strict, "wazzupchannel", "support").items()
        >= (case.old if dry else case.new).items()
    )


def test_a_name_that_ends_in_a_new_line_is_warned_of_all_the_same(strict: World) -> None:
    furnish(strict)
    patch = json.dumps({"spec": {"displayName": "Support\n"}})
    done = strict.kubectl("patch", "wazzupchannel", "support", "--type=merge", f"--patch={patch}")
    let_in(done, r'The operator cannot rename channels: a person has to name this one "Support\n"')


def test_who_follows_what_is_the_case_already_is_not_warned(strict: World) -> None:
    furnish(strict)
    strict.api.patch("wazzupchannel", "support", {"status": {"state": "Off"}}, "status")
    patch = '--patch={"spec": {"active": false}}'
    in_silence(strict.kubectl("patch", "wazzupchannel", "support", "--type=merge", patch))


@pytest.mark.parametrize("way", UPDATE_WAYS)
def test_a_short_interval_is_warned_of_when_it_comes(strict: World, way: str) -> None:
    old, new = account(pollInterval="60s"), account(pollInterval="10s")
    let_in(change(strict, way, old, new), SHORT_INTERVAL)
    interval = spec_of(strict, "wazzupaccount", "default")["pollInterval"]
    assert interval == ("60s" if "--dry-run=server" in way else "10s")


@contextmanager
def up(site: Site) -> Iterator[tuple[int, bytes]]:
    yield site.webhook.port, site.authority.certificate


@contextmanager
def down(site: Site) -> Iterator[tuple[int, bytes]]:
    yield free_port(), site.authority.certificate


@contextmanager
def hanging(site: Site) -> Iterator[tuple[int, bytes]]:
    """Accept, and say nothing: the kernel does."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        yield server.getsockname()[1], site.authority.certificate


@contextmanager
def expired(site: Site) -> Iterator[tuple[int, bytes]]:
    webhook = Webhook(of_chart(site.plane), site.directory / f"expired-{next(_names)}", None)
    webhook.certificates.mount(site.authority.expired())
    webhook.start()
    try:
        webhook.wait_ready()
        yield webhook.port, site.authority.certificate
    finally:
        webhook.stop()


MODES = {each.__name__: each for each in (up, down, hanging, expired)}


class Mode(NamedTuple):
    """What the webhook does, and a namespace with objects that are wrong in every way."""

    name: str
    world: World

    def failed_open(self, verb: str, resource: str = "wazzupchannels") -> bool:
        """Return whether the last such request was let in for want of an answer."""
        writes = eventually(
            lambda: self.world.writes(verb, resource), "it is in the audit log", PATIENCE
        )
        return FAILED_OPEN in writes[-1].get("annotations", {})


@pytest.fixture(scope="module", params=MODES)
def mode(loose_site: Site, request: pytest.FixtureRequest) -> Iterator[Mode]:
    configuration = loose_site.configuration
    configuration.remove()
    eventually(configuration.lets_in, "there is no webhook", PATIENCE)
    mode = Mode(request.param, loose_site.world())
    for name in ("annotated", "replaced", "held", "deleted", "told"):
        # One impossible number, again and again, of an account that is not there.
        body = channel(name, IMPOSSIBLE)
        body["metadata"]["finalizers"] = ["example.org/hold"] if name == "held" else []
        mode.world.api.create(body)
        body = account(name, "yet-to-come", pollInterval="10s")
        body["metadata"]["finalizers"] = ["example.org/hold"] if name == "held" else []
        mode.world.api.create(body)
    with MODES[mode.name](loose_site) as (port, bundle):
        configuration.point(port, bundle)
        if mode.name == "up":
            configuration.wait_refusing()
        else:
            eventually(lambda: failing_open(mode), "the webhook fails", PATIENCE)
        yield mode
        loose_site.point_to_webhook()


def failing_open(mode: Mode) -> bool:
    mode.world.api.request(
        "POST",
        mode.world.api.path("wazzupchannel"),
        channel("impossible", IMPOSSIBLE),
        dryRun="All",
    )
    return mode.failed_open("create")


class Passing(NamedTuple):
    """A kind, an object of it that is stored already, and a change that would be spoken of."""

    kind: str
    stored: JSON
    change: JSON

    @property
    def resource(self) -> str:
        return f"{self.kind}s"


PASSING = [
    Passing(
        "wazzupchannel",
        channel("replaced", IMPOSSIBLE, annotations={"a": "b"}),
        {"phoneNumber": PHONE, "active": False, "displayName": "Held"},
    ),
    Passing(
        "wazzupaccount",
        account("replaced", "yet-to-come", pollInterval="10s"),
        {"pollInterval": "20s"},
    ),
]
both = pytest.mark.parametrize("case", PASSING, ids=[each.kind for each in PASSING])


@both
def test_an_update_that_leaves_the_spec_alone_passes(mode: Mode, case: Passing) -> None:
    kubectl = mode.world.kubectl
    in_silence(kubectl("annotate", case.kind, "annotated", "wazzup.dev/paused=true"))
    in_silence(kubectl("label", case.kind, "annotated", "team=shop"))
    assert not mode.failed_open("patch", case.resource)
    body = case.stored | {"metadata": {"name": "replaced", "annotations": {"a": "b"}}}
    in_silence(kubectl("replace", "-f", "-", stdin=json.dumps(body)))
    assert not mode.failed_open("update", case.resource)


@both
def test_an_object_that_is_being_deleted_may_be_changed_and_go(mode: Mode, case: Passing) -> None:
    kubectl, api = mode.world.kubectl, mode.world.api
    in_silence(kubectl("delete", case.kind, "held", "--wait=false"))
    for changed in ({"spec": case.change}, {"metadata": {"finalizers": None}}):
        assert api.exists(case.kind, "held")
        patch = f"--patch={json.dumps(changed)}"
        in_silence(kubectl("patch", case.kind, "held", "--type=merge", patch))
        assert not mode.failed_open("patch", case.resource)
    assert not api.exists(case.kind, "held")


@both
def test_a_deletion_passes(mode: Mode, case: Passing) -> None:
    in_silence(mode.world.kubectl("delete", case.kind, "deleted"))
    assert not mode.failed_open("delete", case.resource)
    assert not mode.world.api.exists(case.kind, "deleted")


@both
def test_a_status_passes(mode: Mode, case: Passing) -> None:
    patch = '--patch={"status": {"observedGeneration": 7}}'
    words = ["patch", case.kind, "told", "--subresource=status", "--type=merge", patch]
    in_silence(mode.world.kubectl(*words))
    assert not mode.failed_open("patch", case.resource)
    assert mode.world.status("told", case.kind)["observedGeneration"] == 7


def test_a_channel_without_its_account_passes(mode: Mode) -> None:
    body = channel("early", OTHER_PHONE, accountRef={"name": "yet-to-come"})
    done = mode.world.kubectl("apply", "-f", "-", stdin=json.dumps(body))
    let_in(done)
    assert mode.failed_open("create") == (mode.name != "up")
    assert ("Warning" in done.stderr) == (mode.name == "up")
    assert mode.world.api.exists("wazzupchannel", "early")


def test_an_account_without_its_secret_passes(mode: Mode) -> None:
    body = account("early", "yet-to-come", pollInterval="60s")
    in_silence(mode.world.kubectl("apply", "-f", "-", stdin=json.dumps(body)))
    assert mode.failed_open("create", "wazzupaccounts") == (mode.name != "up")
    assert mode.world.api.exists("wazzupaccount", "early")
