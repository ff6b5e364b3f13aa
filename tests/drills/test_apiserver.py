"""An API server that dies, hangs, loses its history or refuses, and one replaced by a proxy."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from dev.controlplane.plane import ControlPlane
from tests.drills.drill import Drill, Replica
from tests.drills.duration import lasting
from tests.drills.figures import measured
from tests.drills.leaders import holder, lease
from tests.drills.outage import (
    PATIENCE,
    Cast,
    Kubelet,
    account_reasons,
    assert_logged,
    lists,
    long,
    proxy,
    throughout,
)
from tests.integration.harness.api import Api, ApiError, eventually
from tests.integration.harness.crds import install, served, uninstall

pytestmark = pytest.mark.timeout(600)


@contextmanager
def repaired(plane: ControlPlane) -> Iterator[None]:
    """Have etcd and the API server running again after the block."""
    try:
        yield
    finally:
        plane.resume_etcd()
        try:
            Api(plane.kubeconfig).request("GET", "readyz")
        except (OSError, ApiError):
            plane.stop_apiserver()
            start_apiserver(plane)


def start_apiserver(plane: ControlPlane) -> None:
    plane.start_apiserver()
    eventually(lambda: served(Api(plane.kubeconfig)), "the kinds are served", PATIENCE)


@pytest.mark.parametrize("seconds", [10, pytest.param(120, marks=long)])
def test_a_killed_api_server_that_has_lost_its_history(drill: Drill, seconds: int) -> None:
    """Without leader election, the operator survives the outage."""
    cast, gate, plane = Cast.create(drill), proxy(drill), drill.plane
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
            "it stays ready: it has synced before",
        )
        tries = int(failures(replica) - tried)
        assert 3 <= tries <= 20 + lasted / 2

        start_apiserver(plane)
        cast.change_objects()
        # Resuming the watches is answered with 410 now.
        plane.compact()
        plane.stop_apiserver()
        start_apiserver(plane)
        gate.open()
        recovery = cast.wait_after()
        measured(f"API server down for {lasted:g} s", recovery=recovery, tries=tries)
        seen = gate.requests[len(before) :]
        assert len(lists(seen)) == 1
        assert len(seen) < 60
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
    assert not cast.truth.written(state="Unknown")
    assert_logged(
        replica, "Cannot list or watch wazzupchannels", "Cannot list or watch wazzupaccounts"
    )


def failures(replica: Replica) -> float:
    return replica.count("rest_client_requests_total", code="<error>")


def test_a_killed_api_server_with_two_replicas(drill: Drill) -> None:
    """The leader exits because it cannot renew, and is restarted like any container."""
    cast, plane = Cast.create(drill), drill.plane
    with Kubelet(drill) as kubelet, repaired(plane):
        replicas = [drill.replica(1), drill.replica(2)]
        cast.wait_before()
        for replica in replicas:
            replica.wait_ready()
        leader = drill.replicas[holder(lease(drill))]
        (standby,) = (each for each in replicas if each is not leader)

        lasted = lasting(30, at_least=14)
        killed = time.monotonic()
        plane.kill_apiserver()
        cast.change_wazzup()
        eventually(lambda: kubelet.exited, "the leader has exited", PATIENCE)
        exited_after = time.monotonic() - killed
        assert exited_after < 12

        def unready() -> bool:
            status, text = leader.probe("/readyz")
            return status == 503 and "Cannot list or watch" in text

        eventually(unready, "after the restart it is not ready", PATIENCE)
        throughout(
            lasted - (time.monotonic() - killed),
            lambda: unready() and standby.probe("/readyz")[0] == 200,
            "the new process is not ready, the standby is",
        )
        assert kubelet.exited == [(leader.name, 1)]

        start_apiserver(plane)
        cast.change_objects()
        recovery = cast.wait_after()
        measured("two replicas", leader_exited_after=exited_after, recovery=recovery)
        eventually(lambda: leader.probe("/readyz")[0] == 200, "both are ready", PATIENCE)
        assert holder(lease(drill)) in drill.replicas
        cast.assert_recovered()
        kubelet.assert_healthy()
        assert kubelet.exited == [(leader.name, 1)]
    assert not cast.truth.written(state="Unknown")
    assert "was not renewed within 10 s" in leader.log()
    assert_logged(standby, "Cannot list or watch", "Cannot acquire or renew")
    assert_logged(leader, "exiting", times=2)


@pytest.mark.parametrize("election", [pytest.param("alone", marks=long), "elected"])
def test_a_suspended_etcd(drill: Drill, election: str) -> None:
    """Requests hang in the API server, and watches deliver nothing."""
    cast, gate, plane = Cast.create(drill), proxy(drill), drill.plane
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet, repaired(plane):
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        before = len(gate.requests)

        lasted = lasting(30, at_least=13)
        plane.suspend_etcd()
        cast.change_wazzup()
        throughout(lasted, lambda: True, "etcd is suspended")
        requests = len(gate.requests) - before
        assert requests <= 15 + lasted
        plane.resume_etcd()
        eventually(lambda: served(drill.api), "the API server serves again", PATIENCE)
        cast.change_objects()
        recovery = cast.wait_after()
        measured(f"etcd suspended for {lasted:g} s", recovery=recovery, requests=requests)
        cast.assert_recovered()
        kubelet.assert_healthy()
        assert kubelet.exited == ([] if election == "alone" else [("replica-1", 1)])
    assert not cast.truth.written(state="Unknown")
    if election == "elected":
        assert "was not renewed within 10 s" in replica.log()
    assert_logged(replica, times=1 + len(kubelet.exited))


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
def test_a_proxy_that_answers_instead_of_the_api_server(
    drill: Drill, page: str, election: str
) -> None:
    cast, gate = Cast.create(drill), proxy(drill)
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        gate.page = PAGES[page]
        gate.cut_watches()
        cast.change_wazzup()
        cast.change_objects()
        lasted = lasting(15, at_least=13 if election == "elected" else 5)
        throughout(lasted, lambda: True, "the proxy answers")
        pages = len(gate.pages)
        assert 3 <= pages <= 20 + 2 * lasted
        gate.page = None
        recovery = cast.wait_after()
        measured(f"{page} for {lasted:g} s, {election}", recovery=recovery, pages=pages)
        cast.assert_recovered()
        kubelet.assert_healthy()
        assert kubelet.exited == ([] if election == "alone" else [("replica-1", 1)])
    assert_logged(replica, "Cannot list or watch", times=1 + len(kubelet.exited))
    assert "Traceback" not in replica.log()
    assert account_reasons(drill) == {"UpToDate"}


@pytest.mark.parametrize("election", [pytest.param("alone", marks=long), "elected"])
def test_permissions_revoked_and_granted_again(drill: Drill, election: str) -> None:
    cast, gate = Cast.create(drill), proxy(drill)
    flags = ["--no-leader-elect"] if election == "alone" else []
    with Kubelet(drill) as kubelet:
        replica = drill.replica(1, *flags, gate=gate)
        cast.wait_before()
        with without_permissions(drill):
            # An open watch continues; only a new one is refused.
            gate.cut_watches()
            before = len(gate.requests)
            cast.change_wazzup()
            cast.change_objects()
            lasted = lasting(20, at_least=13 if election == "elected" else 6)
            sentence = "The operator may not list and watch wazzupchannels in"
            begun = time.monotonic()
            eventually(lambda: sentence in replica.log(), "it is logged", PATIENCE)
            if election == "elected":
                eventually(lambda: kubelet.exited, "the leader has exited", PATIENCE)
                eventually(
                    lambda: (
                        replica.probe("/readyz")[0] == 503
                        and "may not list and watch" in replica.probe("/readyz")[1]
                    ),
                    "after the restart /readyz names it",
                    PATIENCE,
                )
            throughout(lasted - (time.monotonic() - begun), lambda: True, "permissions are revoked")
            requests = len(gate.requests) - before
            assert 4 <= requests <= 25 + 2 * lasted
        recovery = cast.wait_after()
        measured(f"no rights for {lasted:g} s, {election}", recovery=recovery, requests=requests)
        cast.assert_recovered()
        eventually(lambda: replica.probe("/readyz")[0] == 200, "it is ready", PATIENCE)
        kubelet.assert_healthy()
        assert kubelet.exited == ([] if election == "alone" else [("replica-1", 1)])
    assert_logged(replica, sentence, times=1 + len(kubelet.exited))


@contextmanager
def without_permissions(drill: Drill) -> Iterator[None]:
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
        eventually(forbidden, "permissions are revoked")
        yield
    finally:
        for path, body in bindings:
            drill.api.request(
                "POST", path, {**body, "metadata": {"name": body["metadata"]["name"]}}
            )
        eventually(lambda: not forbidden(), "permissions are granted again")


@pytest.mark.parametrize("seen", [pytest.param("seen", marks=long), "unseen"])
def test_crds_deleted_and_applied_again(drill: Drill, seen: str) -> None:
    """All objects are deleted with them. Unseen: the operator is disconnected meanwhile."""
    cast, gate = Cast.create(drill, reasons={"AccountNotFound"}), proxy(drill)
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
                sentence = "does not serve wazzupchannels in"
                eventually(
                    lambda: sentence in replica.log(),
                    "it is logged",
                    PATIENCE,
                )
                lasted = lasting(15, at_least=4)
                before = len(gate.requests)
                throughout(lasted, lambda: True, "the kinds are deleted")
                requests = len(gate.requests) - before
                assert requests <= 10 + lasted
        recreate(cast)
        if seen == "unseen":
            gate.open()
        recovery = cast.wait_after()
        measured(f"CRDs deleted and applied again, {seen}", recovery=recovery)
        cast.assert_recovered()
        kubelet.assert_nothing_exited()
        assert len(lists(gate.requests[begun:])) <= 20
    assert_logged(replica, *([sentence] if seen == "seen" else []))


def recreate(cast: Cast) -> None:
    """Recreate the objects of AFTER: without main-3, with main-8."""
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
    cast.declare("main-4", 8)
    cast.declare("main-8", 9)


@contextmanager
def without_kinds(plane: ControlPlane) -> Iterator[None]:
    uninstall(plane)
    try:
        yield
    finally:
        install(plane)
