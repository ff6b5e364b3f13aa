"""A deleted Lease, and missing permissions on Leases."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.drills.drill import LEASES, Drill, Replica
from tests.drills.duration import SCALE, lasting
from tests.drills.figures import measured
from tests.drills.leaders import (
    ACTIVE,
    BRIEF,
    NOT_PAID,
    PATIENCE,
    SCAN,
    Money,
    Probes,
    acts,
    assert_leaders,
    assert_once,
    channels,
    errors,
    holder,
    leader_and_standby,
    lease,
    seconds,
    wait_listed,
    wait_until,
    wait_written,
)
from tests.integration.harness.api import JSON, Api, ApiError, eventually
from tests.integration.harness.release import RIGHTS

pytestmark = pytest.mark.timeout(600)


def test_a_deleted_lease(drill: Drill) -> None:
    """One of three replicas leads, also after the Lease is deleted."""
    money = Money(drill, 300)
    replicas = [drill.replica(number) for number in (1, 2, 3)]
    one = wait_one_leads(drill)
    wait_written(drill, one, money.all(ACTIVE))
    for replica in replicas:
        replica.wait_ready()
    assert_leaders(drill, one)
    assert [each for each in replicas if channels(each)] == [one]
    assert money.truth.writes() == {one.name: money.size}

    times = 4 if SCALE >= 1 else 2
    for number in range(times):
        before = len(money.truth.written())
        if number % 2:
            money.pay()
            status = ACTIVE
            money.wait_more_written(before)
        else:
            money.run_out()
            status = NOT_PAID
        deleted = drill.kubectl("delete", "lease", drill.api.namespace, f"--namespace={LEASES}")
        assert deleted.returncode == 0, deleted.stderr
        assert wait_one_leads(drill) is one
        wait_written(drill, one, money.all(status))
        assert [each for each in replicas if channels(each)] == [one]
        assert_once(drill, money.truth.written()[before:], money.all(status))
    measured(f"the Lease was deleted in {times} bursts", conflicts=money.truth.refused().total())
    assert_leaders(drill, one)
    money.truth.assert_true()


def wait_one_leads(drill: Drill) -> Replica:
    """Wait until a replica holds the Lease; return it."""
    name = eventually(lambda: holder(lease(drill)), "a replica leads", 30)
    return drill.replicas[name]


def test_permissions_on_leases_revoked_and_granted_again(drill: Drill) -> None:
    money = Money(drill, 20)
    leader, standby = leader_and_standby(drill, *BRIEF.flags)
    wait_written(drill, leader, money.all(ACTIVE))
    with Probes(standby) as probes, without_leases(drill):
        taken = time.time()
        assert leader.wait(BRIEF.deadline + 5) == 1
        ended = time.time()
        said = errors(leader.log())
        assert len(said) == 1, said
        assert "was not renewed within 4 s" in said[0]
        assert "grant the operator get, create and patch on leases" in said[0]

        # The restarted container is a standby like the other one.
        leader.start()
        leader.wait_ready()
        missing = "Cannot acquire or renew the Lease"
        for replica in (leader, standby):
            eventually(lambda replica=replica: missing in replica.log(), "it is logged")
        wait_until(ended + lasting(15, at_least=BRIEF.lease))
        lasted = time.time() - taken
        asked = Counter(
            each.replica for each in acts(drill) if each.resource == "leases" and each.time > taken
        )
        assert standby.log().count(missing) == 1
        assert leader.log().count(missing) <= 2  # once by each of its processes
        for name, count in asked.items():
            assert count <= 3 + lasted / (0.4 * BRIEF.period), f"{name} asked {count} times"
        assert {each.code for each in acts(drill) if each.time > ended and each.writes} <= {403}
        money.site.show(0, "qridle")
    granted = time.time()
    renewed, one = wait_one_of(drill, leader, standby)
    drill.wait_states({**money.all(ACTIVE), "money-0": SCAN}, 20)
    probes.assert_ready(standby)
    wait_listed(money.site, 1)
    assert [each for each in (leader, standby) if channels(each)] == [one]
    measured(
        "no permissions on leases",
        leader_exited=ended - taken,
        leads_again_after=renewed - granted,
        asked=asked[standby.name],
    )
    assert ended - taken <= BRIEF.deadline + 1
    assert Counter(each.name for each in money.truth.written()) == {
        **dict.fromkeys(money.all(ACTIVE), 1),
        "money-0": 2,
    }
    money.truth.assert_true()


def wait_one_of(drill: Drill, *replicas: Replica) -> tuple[float, Replica]:
    """Wait until a replica renews the Lease; return the time and the replica."""
    since = time.time()
    renewed = eventually(
        lambda: (found := lease(drill)) and seconds(found["renewTime"]) > since and found,
        "the Lease is renewed",
        BRIEF.lease + PATIENCE,
    )
    one = next(each for each in replicas if each.name == holder(renewed))
    return seconds(renewed["renewTime"]), one


@contextmanager
def without_leases(drill: Drill) -> Iterator[None]:
    """Revoke the operator's permissions on leases during the block."""
    api, operator = Api(drill.plane.kubeconfig), Api(drill.plane.kubeconfig_for(drill.operator))
    path = f"{RIGHTS}/namespaces/{LEASES}/roles/{drill.api.namespace}-leader-election"
    rules = api.request("GET", path)["rules"]
    others = [each for each in rules if each["resources"] != ["leases"]]
    assert others, "the Role grants nothing else"

    def forbidden() -> bool:
        leases = f"apis/coordination.k8s.io/v1/namespaces/{LEASES}/leases"
        try:
            operator.request("GET", f"{leases}/{drill.api.namespace}")
        except ApiError as error:
            return error.status == 403
        return False

    def grant(granted: list[JSON]) -> None:
        api.request("PATCH", path, {"rules": granted}, "application/merge-patch+json")

    grant(others)
    try:
        eventually(forbidden, "permissions are revoked")
        yield
    finally:
        grant(rules)
        eventually(lambda: not forbidden(), "permissions are granted again")
