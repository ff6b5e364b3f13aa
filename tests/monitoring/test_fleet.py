"""The dashboards on a real Prometheus that scrapes two replicas."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest

from dev.generate.alerts.rules import RULES
from tests.drills.drill import Replica
from tests.expected_states import BY_NAME, SPELLINGS
from tests.integration.harness.api import account, eventually, secret
from tests.integration.harness.webhook import Authority, Webhook, of_chart
from tests.integration.harness.world import World
from tests.monitoring.dashboards import DASHBOARDS, panels, queries
from tests.monitoring.fleet import Fleet
from tests.monitoring.prometheus import Prometheus, program
from tests.monitoring.replicas import replica
from tests.monitoring.scrapes import scrape_webhook

STATES = [*SPELLINGS, "somethingNew"]
"""Every API state, and an unknown one."""


@pytest.mark.timeout(400)
def test_the_fleet_dashboard_shows_what_the_api_server_has(
    world: World,
    tmp_path: Path,
) -> None:
    """Through all states, an outage, a deletion, a change of leader and a restart.

    Every panel of both dashboards has data.
    """
    program("prometheus")
    replicas = [replica(world, number) for number in range(2)]
    other = f"{world.account}-second"
    world.simulator.add_account([f"key-{other}"], id=other)
    world.account_with_key()
    world.api.create(secret(f"key-{other}", "second"))
    world.api.create(account("second", "second"))
    added = [_declared(world, number) for number in range(len(STATES))]
    world.declare("never-added", "+79865780099")
    world.declare("twice", "+79865780000")
    world.declare("of-second", "+79865780098", accountRef={"name": "second"})
    world.add("79865780097", state="active")  # unmanaged
    replicas[0].start()
    replicas[0].wait_ready()
    eventually(lambda: replicas[0].count("leader_election_master_status") == 1, "it leads")
    replicas[1].start()
    replicas[1].wait_ready()
    webhook = Webhook(of_chart(world.plane), tmp_path / "webhook", Authority())
    world.controllers.append(webhook)
    webhook.start()
    scrape_webhook(webhook, world.api.namespace)
    began = time.time()
    targets = {
        **{each.name: each.metrics_address for each in replicas},
        "webhook": webhook.metrics_address,
    }
    with Prometheus(tmp_path, targets) as prometheus:
        fleet = Fleet(prometheus, world.api)
        fleet.agree("at first")
        assert {state for _, state, _ in fleet.shows["each"]} == BY_NAME.keys()
        in_the_outage = _stir(world, fleet, added, replicas)
        total = " + ".join(f"({fleet.expression(f'Declared {each}')})" for each in ("on", "off"))
        sums = prometheus.history(total, began)
        assert len(sums) > 60, "too few samples"
        assert set(sums) <= set(range(len(STATES) + 2, len(STATES) + 4)), "wrong total"
        scraped = prometheus.scraped("leader_election_master_status")
        leaders = [labels["pod"] for _, labels, value in scraped if value]
        # The former leader is never scraped as leader again.
        assert [pod for pod, _ in itertools.groupby(leaders)] == ["replica-0", "replica-1"]
        assert prometheus.own("prometheus_rule_group_rules") == len(RULES)
        assert prometheus.own("prometheus_rule_evaluations_total") > 60 * len(RULES)
        assert prometheus.own("prometheus_rule_evaluation_failures_total") == 0
        every = {panel["title"] for name in DASHBOARDS for panel in panels(name)}
        assert every - in_the_outage - _with_data(prometheus) == set()


def _stir(
    world: World,
    fleet: Fleet,
    added: list[Any],
    replicas: list[Replica],
) -> set[str]:
    """Change one thing at a time; the dashboard must follow each change.

    Returns the panels with data during an outage.
    """
    for shift in range(1, 14, 2):
        for number, each in enumerate(added):
            world.simulator.patch_channel(each, state=STATES[(number + shift) % len(STATES)])
        _wait_listed(world)
        fleet.agree(f"the states shifted by {shift}")
    world.simulator.run_out_of_money(world.account)
    _wait_listed(world)
    fleet.agree("out of money")
    world.api.patch("wazzupchannel", "channel-4", {"spec": {"active": False}})
    world.api.delete("wazzupchannel", "twice")
    fleet.agree("one declared off, one deleted")
    world.simulator.add_fault("status", account=f"{world.account}-second", code=503)
    world.wait_reason("second", "AccountUnreachable", "wazzupaccount")
    fleet.agree("an outage of the second account")
    in_the_outage = _with_data(fleet.prometheus)
    replicas[0].stop()
    eventually(lambda: replicas[1].count("leader_election_master_status") == 1, "the other leads")
    world.simulator.pay(world.account)
    _wait_listed(world)
    fleet.agree("another leader")
    replicas[1].kill()
    replicas[1].start()
    world.simulator.clear_faults()
    world.wait_reason("second", "UpToDate", "wazzupaccount", seconds=60)
    fleet.agree("a crash and a restart")
    return in_the_outage


def _with_data(prometheus: Prometheus) -> set[str]:
    """Return the titles of the panels with data."""
    return {
        title
        for name in DASHBOARDS
        for title, _, expression in queries(name)
        if prometheus.ask(expression)
    }


def _declared(world: World, number: int) -> Any:
    phone = f"798657800{number:02d}"
    world.declare(f"channel-{number}", f"+{phone}", active=number % 5 != 3)
    return world.add(phone, state=STATES[number])


def _wait_listed(world: World) -> None:
    """Wait for two more listings."""
    before = world.requests()
    eventually(lambda: world.requests() >= before + 2, "the account is listed", 20)
