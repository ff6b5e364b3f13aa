"""Keepers that crash, compete or lose the Secret: served pairs stay trusted throughout."""

import asyncio
import base64
import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.certificates.cluster import MISHAPS, Cluster, Killed, make_keeper, settle
from tests.unit.certificates.pairs import MINUTE


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "unanswered"])
@pytest.mark.parametrize("mishap", MISHAPS)
async def test_a_keeper_killed_at_any_write_converges_and_served_pairs_stay_trusted(
    mishap, answered
):
    for last in range(12):
        cluster = Cluster()
        cluster.install()
        await settle(cluster)
        await mishap(cluster)
        cluster.kill_at = last if answered else last + 0.5
        finished = False
        try:
            await settle(cluster)
            finished = True
        except Killed:
            cluster.kill_at = None
            await settle(cluster)
        if finished:
            return
    pytest.fail("it never finished within 12 writes")


@pytest.mark.parametrize("mishap", MISHAPS)
async def test_a_keeper_killed_after_each_write_converges(mishap):
    cluster = Cluster()
    cluster.install()
    await settle(cluster)
    await mishap(cluster)
    keeper = make_keeper(cluster)
    for _ in range(12):
        cluster.kill_at = 0.5
        try:
            await keeper.reconcile(cluster.now)
        except Killed:
            keeper = make_keeper(cluster)
        cluster.now += MINUTE
    cluster.kill_at = None
    await settle(cluster, attempts=0)


@pytest.mark.parametrize("mishap", MISHAPS)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60))
async def test_concurrent_keepers_converge_in_any_order(mishap, order):
    cluster = Cluster()
    cluster.install()
    await settle(cluster)
    await mishap(cluster)
    keepers = [make_keeper(cluster) for _ in range(3)]
    alive = dict(enumerate(each.reconcile(cluster.now) for each in keepers))
    # Each step advances one keeper by one request, in the drawn order and then in turns.
    for which in [*order, *[0, 1, 2] * 100]:
        if which in alive:
            try:
                alive[which].send(None)
            except StopIteration:
                del alive[which]
    assert not alive
    for _ in range(3):
        cluster.now += MINUTE
        await asyncio.gather(*(each.reconcile(cluster.now) for each in keepers))
    await settle(cluster, keepers[0], attempts=0)


async def test_no_key_reaches_a_log(cluster, caplog):
    caplog.set_level(logging.DEBUG)
    keeper = await settle(cluster)
    for mishap in MISHAPS:
        await mishap(cluster)
        await settle(cluster, keeper)
    secrets = {base64.b64decode(cluster.data[key]).split(b"\n")[1] for key in ("tls.key", "ca.key")}
    assert caplog.text
    assert "PRIVATE" not in caplog.text
    assert not any(secret.decode() in caplog.text for secret in secrets)
