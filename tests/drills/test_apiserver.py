"""An API server that dies, hangs, forgets or refuses, and one that is not there but a proxy is."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import yaml

from dev.controlplane.plane import ControlPlane
from tests.drills.drill import LEASES, Drill, Replica
from tests.drills.duration import lasting
from tests.drills.figures import measured
from tests.drills.outage import (
    PATIENCE,
    Cast,
    Kubelet,
    assert_told,
    lists,
    long,
    proxy,
    throughout,
    told_of_the_account,
)
from tests.integration.harness.api import Api, ApiError, eventually
from tests.integration.harness.world import ROOT, served

pytestmark = pytest.mark.timeout(600)


def holder(drill: Drill) -> str:
    leases = f"apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
    lease = drill.api.request("GET", f"{leases}/{drill.api.namespace}")
    return str(lease["spec"].get("holderIdentity", ""))


@contextmanager
def repaired(plane: ControlPlane) -> Iterator[None]:
    """Whatever happens in the block, the next drill finds etcd and the API server running."""
    try:
        yield
    finally:
        plane.resume_etcd()
        try:
            Api(plane.kubeconfig).request("GET", "readyz")
        except (OSError, ApiError):
            plane.stop_apiserver()
            start_again(plane)


def start_again(plane: ControlPlane) -> None:
    plane.start_apiserver()
    eventually(lambda: served(Api(plane.kubeconfig)), "the kinds are served", PATIENCE)


@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=long)])
def test_an_api_server_that_is_killed_and_has_forgotten(drill: Drill, seconds: int) -> None:
    """How the operator itself gets over it: without an election nothing ends it."""
    cast, gate, plane = Cast.enter(drill), proxy(drill), drill.plane
    with Kubelet(drill) as kubelet, repaired(plane):
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        before, tried = gate.requests, failures(replica)

        lasted = lasting(seconds, at_least=5)
        plane.kill_apiserver()
        gate.close()
        cast.change_wazzup()
        throughout(
            lasted,
            lambda: replica.probe("/readyz") == (200, "ok\n"),
            "it knows every object, and /readyz says so",
        )
        tries = int(failures(replica) - tried)
        assert 3 <= tries <= 20 + lasted / 2

        start_again(plane)
        cast.change_objects()
        # Going on with the watches is answered with 410 now.
        plane.compact()
        plane.stop_apiserver()
        start_again(plane)
        gate.open()
        recovery = cast.wait_after()
        measured(f"API server away for {lasted:g} s", recovery=recovery, tries=tries)
        seen = gate.requests[len(before) :]
        assert len(lists(seen)) == 1
        assert len(seen) < 60
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
    assert not cast.truth.written(state="Unknown")
    assert_told(
        replica, "Cannot list or watch wazzupchannels", "Cannot list or watch wazzupaccounts"
    )


def failures(replica: Replica) -> float:
    return replica.count("rest_client_requests_total", code="<error>")


def test_two_replicas_whose_api_server_is_killed(drill: Drill) -> None:
    """The leader ends, as it cannot renew, and is started again like any container."""
    cast, plane = Cast.enter(drill), drill.plane
    with Kubelet(drill) as kubelet, repaired(plane):
        replicas = [drill.replica(1), drill.replica(2)]
        cast.wait_before()
        for replica in replicas:
            replica.wait_ready()
        leader = drill.replicas[holder(drill)]
        (standby,) = (each for each in replicas if each is not leader)

        lasted = lasting(30, at_least=14)
        killed = time.monotonic()
        plane.kill_apiserver()
        cast.change_wazzup()
        eventually(lambda: kubelet.ended, "the leader has ended", PATIENCE)
        ended_after = time.monotonic() - killed
        assert ended_after < 12

        def unready() -> bool:
            status, text = leader.probe("/readyz")
            return status == 503 and "Cannot list or watch" in text

        eventually(unready, "started again, it says that it knows nothing yet", PATIENCE)
        throughout(
            lasted - (time.monotonic() - killed),
            lambda: unready() and standby.probe("/readyz")[0] == 200,
            "the new process knows nothing, the standby everything",
        )
        assert kubelet.ended == [(leader.name, 1)]

        start_again(plane)
        cast.change_objects()
        recovery = cast.wait_after()
        measured("two replicas", leader_ended_after=ended_after, recovery=recovery)
        eventually(lambda: leader.probe("/readyz")[0] == 200, "both are ready again", PATIENCE)
        assert holder(drill) in drill.replicas
        cast.assert_all_is_well()
        kubelet.assert_healthy()
        assert kubelet.ended == [(leader.name, 1)]
    assert not cast.truth.written(state="Unknown")
    assert "was not renewed within 10 s" in leader.log()
    assert_told(standby, "Cannot list or watch", "Cannot acquire or renew")
    assert_told(leader, "exiting", times=2)


@pytest.mark.parametrize("election", [pytest.param("alone", marks=long), "elected"])
def test_an_etcd_that_is_stopped_and_continued(drill: Drill, election: str) -> None:
    """What needs etcd hangs, though the API server takes it, and the watches bring nothing."""
    cast, gate, plane = Cast.enter(drill), proxy(drill), drill.plane
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet, repaired(plane):
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        before = len(gate.requests)

        lasted = lasting(30, at_least=13)
        plane.suspend_etcd()
        cast.change_wazzup()
        throughout(lasted, lambda: True, "etcd stands still")
        requests = len(gate.requests) - before
        assert requests <= 15 + lasted
        plane.resume_etcd()
        eventually(lambda: served(drill.api), "the API server serves again", PATIENCE)
        cast.change_objects()
        recovery = cast.wait_after()
        measured(f"etcd stopped for {lasted:g} s", recovery=recovery, requests=requests)
        cast.assert_all_is_well()
        kubelet.assert_healthy()
        assert kubelet.ended == ([] if election == "alone" else [("replica-1", 1)])
    assert not cast.truth.written(state="Unknown")
    if election == "elected":
        assert "was not renewed within 10 s" in replica.log()
    assert_told(replica, times=1 + len(kubelet.ended))


PAGES = {
    "html": ("<!DOCTYPE html>\n<html><body>Log in</body></html>\n", "text/html"),
    "array": ("[]\n", "application/json"),
    "object": ('{"message": "Please log in"}\n', "application/json"),
    "nulls": ('{"metadata": null, "items": null, "status": "Success"}\n', "application/json"),
}


@pytest.mark.parametrize(
    ("page", "election"),
    [
        ("html", "alone"),
        pytest.param("array", "alone", marks=long),
        ("object", "elected"),
        pytest.param("nulls", "alone", marks=long),
    ],
)
def test_a_proxy_that_answers_what_no_api_server_does(
    drill: Drill, page: str, election: str
) -> None:
    cast, gate = Cast.enter(drill), proxy(drill)
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        gate.page = PAGES[page]
        gate.cut_watches()
        cast.change_wazzup()
        cast.change_objects()
        lasted = lasting(15, at_least=13 if election == "elected" else 5)
        throughout(lasted, lambda: True, "it answers nonsense")
        pages = len(gate.pages)
        assert 3 <= pages <= 20 + 2 * lasted
        gate.page = None
        recovery = cast.wait_after()
        measured(f"{page} for {lasted:g} s, {election}", recovery=recovery, pages=pages)
        cast.assert_all_is_well()
        kubelet.assert_healthy()
        assert kubelet.ended == ([] if election == "alone" else [("replica-1", 1)])
    assert_told(replica, "Cannot list or watch", times=1 + len(kubelet.ended))
    assert "Traceback" not in replica.log()
    assert told_of_the_account(drill) == {"UpToDate"}


@pytest.mark.parametrize("election", [pytest.param("alone", marks=long), "elected"])
def test_rights_that_are_taken_away_and_given_back(drill: Drill, election: str) -> None:
    cast, gate = Cast.enter(drill), proxy(drill)
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        with without_rights(drill):
            # A watch that is open goes on; it has to be begun anew to be refused.
            gate.cut_watches()
            before = len(gate.requests)
            cast.change_wazzup()
            cast.change_objects()
            lasted = lasting(20, at_least=13 if election == "elected" else 6)
            sentence = "The operator may not list and watch wazzupchannels; grant it permission"
            begun = time.monotonic()
            eventually(lambda: sentence in replica.log(), "it says what is missing", PATIENCE)
            if election == "elected":
                eventually(lambda: kubelet.ended, "the leader has ended", PATIENCE)
                eventually(
                    lambda: (
                        replica.probe("/readyz")[0] == 503
                        and "may not list and watch" in replica.probe("/readyz")[1]
                    ),
                    "started again, it says why it knows nothing",
                    PATIENCE,
                )
            throughout(lasted - (time.monotonic() - begun), lambda: True, "it has no rights")
            requests = len(gate.requests) - before
            assert 4 <= requests <= 25 + 2 * lasted
        recovery = cast.wait_after()
        measured(f"no rights for {lasted:g} s, {election}", recovery=recovery, requests=requests)
        cast.assert_all_is_well()
        eventually(lambda: replica.probe("/readyz")[0] == 200, "it is ready", PATIENCE)
        kubelet.assert_healthy()
        assert kubelet.ended == ([] if election == "alone" else [("replica-1", 1)])
    assert_told(replica, sentence, times=1 + len(kubelet.ended))


@contextmanager
def without_rights(drill: Drill) -> Iterator[None]:
    operator = Api(drill.plane.kubeconfig_for(drill.operator), drill.api.namespace)

    def forbidden() -> bool:
        try:
            operator.list("wazzupchannel")
        except ApiError as error:
            return error.status == 403
        return False

    bindings = drill.bindings()
    for path, body in bindings:
        drill.api.request("DELETE", f"{path}/{body['metadata']['name']}")
    try:
        eventually(forbidden, "it has no rights")
        yield
    finally:
        for path, body in bindings:
            drill.api.request(
                "POST", path, {**body, "metadata": {"name": body["metadata"]["name"]}}
            )
        eventually(lambda: not forbidden(), "it has its rights")


CRDS = "apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = ("wazzupchannels", "wazzupaccounts")


@pytest.mark.parametrize("seen", [pytest.param("seen", marks=long), "unseen"])
def test_crds_that_are_deleted_and_applied_again(drill: Drill, seen: str) -> None:
    """All objects go with them. Unseen: the way to the API server was broken meanwhile."""
    cast, gate = Cast.enter(drill, reasons={"AccountNotFound"}), proxy(drill)
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, "--no-leader-elect", gate=gate)
        cast.wait_before()
        begun = len(gate.requests)
        if seen == "unseen":
            gate.close()
        with without_kinds(drill.plane):
            cast.change_wazzup()
            if seen == "seen":
                cast.wait_counted({})
                sentence = "does not serve wazzupchannels of this version; apply the CRDs (crds/)"
                eventually(lambda: sentence in replica.log(), "it says what is missing", PATIENCE)
                lasted = lasting(15, at_least=4)
                before = len(gate.requests)
                throughout(lasted, lambda: True, "the kinds are gone")
                requests = len(gate.requests) - before
                assert requests <= 10 + lasted
        anew(cast)
        if seen == "unseen":
            gate.open()
        recovery = cast.wait_after()
        measured(f"CRDs deleted and applied again, {seen}", recovery=recovery)
        cast.assert_all_is_well()
        kubelet.assert_nothing_ended()
        assert len(lists(gate.requests[begun:])) <= 20
    assert_told(replica, *([sentence] if seen == "seen" else []))


def anew(cast: Cast) -> None:
    """Make everything anew as AFTER expects it: main-3 is not there any more, main-8 is new."""
    api = cast.drill.api
    api.create(
        {
            "apiVersion": "wazzup.dev/v1",
            "kind": "WazzupAccount",
            "metadata": {"name": "main"},
            "spec": {"apiKeySecretRef": {"name": "main"}, "pollInterval": "5s"},
        }
    )
    for number in (0, 1, 2, 5, 6, 7):
        api.create(cast.site.body(number, active=number not in (5, 6)))
    cast.create("main-4", 8)
    cast.create("main-8", 9)


@contextmanager
def without_kinds(plane: ControlPlane) -> Iterator[None]:
    api = Api(plane.kubeconfig)

    def gone(kind: str) -> bool:
        try:
            api.request("DELETE", f"{CRDS}/{kind}.wazzup.dev")
        except ApiError as error:
            if error.status == 404:
                return True
            raise
        return False

    try:
        for kind in KINDS:
            eventually(lambda kind=kind: gone(kind), f"{kind} are gone", PATIENCE)
        yield
    finally:
        for kind in KINDS:
            if gone(kind):
                body = yaml.safe_load((ROOT / "crds" / f"{kind}.yaml").read_text())
                api.request("POST", CRDS, body)
        eventually(lambda: served(api), "the kinds are served", PATIENCE)
