"""How the Secret and the caBundle are kept: what is written, when, and what is said."""

import asyncio
import itertools
import logging
from datetime import timedelta

import pytest

from tests.unit.certificates.cluster import (
    CONFIGURATION,
    DAMAGES,
    SECRET,
    Cluster,
    age_authority,
    damage_authority,
    keeper,
    settle,
)
from tests.unit.certificates.pairs import DAYS, MINUTE, NOW, VALIDITY, trusted
from wazzup_operator.certificates import keeper as keeping
from wazzup_operator.certificates.issue import dump_bundle, make_authority, renewal
from wazzup_operator.certificates.keeper import SETTLE, CertificateKeeper, RightMissing, Unsteady
from wazzup_operator.certificates.rotation import MOST_FORMER
from wazzup_operator.kube.errors import ConnectionFailed
from wazzup_operator.resources.base import NamespacedName


async def test_the_first_pass_makes_everything(cluster):
    wait = await keeper(cluster).keep(cluster.now)
    assert cluster.writes == [
        ("create", SECRET),
        ("patch", CONFIGURATION),
        ("patch", SECRET),
    ]
    secret = cluster.api.find(SECRET)
    assert secret["type"] == "kubernetes.io/tls"
    assert sorted(secret["data"]) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert "app.kubernetes.io/instance" not in secret["metadata"]["labels"]
    assert cluster.api.find(CONFIGURATION)["webhooks"][0]["timeoutSeconds"] == 3
    assert timedelta(0) < wait <= MINUTE
    await settle(cluster)


async def test_a_missing_configuration_is_no_error_and_is_filled_once_there(cluster, caplog):
    cluster.api.delete(CONFIGURATION)
    caplog.set_level(logging.INFO)
    who = keeper(cluster)
    for _ in range(3):
        await who.keep(cluster.now)
    assert cluster.pair()
    assert caplog.text.count("is not there (yet)") == 1
    cluster.install()
    cluster.checked = False
    await who.keep(cluster.now)
    assert cluster.steady()
    assert cluster.writes[-1] == ("patch", CONFIGURATION)


async def test_a_configuration_that_is_not_to_come_is_told_once_with_what_to_do(cluster, caplog):
    cluster.api.delete(CONFIGURATION)
    who = keeper(cluster)

    async def minutes(count):
        caplog.clear()
        for _ in range(count):
            await who.keep(cluster.now)
            cluster.now += MINUTE
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]

    assert await minutes(5) == []
    warning = (
        'the ValidatingWebhookConfiguration "wz" has not been there for 5 minutes, so no API server'
        " asks the webhook: install it, or correct --webhook-configuration to the name that it has"
    )
    assert await minutes(20) == [warning]
    cluster.install()
    cluster.checked = False
    assert await minutes(2) == []
    cluster.api.delete(CONFIGURATION)
    assert await minutes(6) == [warning]


async def test_a_step_of_the_clock_is_not_taken_for_time_that_has_passed(cluster):
    who = await settle(cluster)
    cluster.now = renewal(cluster.content().authority.certificate)
    await who.keep(cluster.now)
    pair = cluster.pair().certificate
    before = cluster.elapsed
    for elapsed in (0, 29.9):
        cluster.elapsed = before + elapsed
        cluster.now += 5 * MINUTE
        await who.keep(cluster.now)
        assert cluster.pair().certificate == pair
    cluster.elapsed = before + 30
    cluster.now -= 9 * MINUTE
    await who.keep(cluster.now)
    assert cluster.pair().certificate != pair


async def test_the_pair_is_renewed_at_two_thirds_with_the_same_ca_and_one_write(cluster):
    who = await settle(cluster)
    first, authority = cluster.pair(), cluster.content().authority
    cluster.now = renewal(first.certificate) - MINUTE
    writes = len(cluster.writes)
    assert await who.keep(cluster.now) <= MINUTE
    assert len(cluster.writes) == writes
    cluster.now += MINUTE
    await who.keep(cluster.now)
    assert cluster.writes[writes:] == [("patch", SECRET)]
    assert cluster.pair().certificate != first.certificate
    assert cluster.content().authority.certificate == authority.certificate


async def test_a_wiped_bundle_is_put_back_by_the_next_pass(cluster):
    who = await settle(cluster)
    cluster.install()
    writes = len(cluster.writes)
    await who.keep(cluster.now)
    assert cluster.writes[writes:] == [("patch", CONFIGURATION)]
    assert cluster.steady()


async def test_a_new_ca_is_trusted_for_a_while_before_anything_is_served_from_it(cluster):
    who = await settle(cluster)
    old, old_pair = cluster.content().authority.certificate, cluster.pair().certificate
    cluster.now = renewal(old)
    old_pair = cluster.pair().certificate
    wait = await who.keep(cluster.now)
    new = cluster.content().authority.certificate
    assert new != old
    assert cluster.pair().certificate == old_pair
    assert cluster.bundles() == [(new, old)] * 2
    assert wait == SETTLE
    cluster.now += SETTLE - timedelta(seconds=1)
    await who.keep(cluster.now)
    assert cluster.pair().certificate == old_pair
    cluster.now += timedelta(seconds=1)
    await who.keep(cluster.now)
    assert cluster.pair().certificate != old_pair
    assert cluster.bundles() == [(new, old)] * 2
    cluster.now += VALIDITY
    await who.keep(cluster.now - MINUTE)
    assert cluster.bundles() == [(new, old)] * 2
    await who.keep(cluster.now + MINUTE)
    assert cluster.bundles() == [(new,)] * 2
    assert sorted(cluster.data) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]


async def test_a_bundle_wiped_during_a_change_is_waited_for_anew(cluster):
    who = await settle(cluster)
    cluster.now = renewal(cluster.content().authority.certificate)
    await who.keep(cluster.now)
    pair = cluster.pair().certificate
    cluster.now += MINUTE
    cluster.install()
    cluster.checked = False
    await who.keep(cluster.now)
    assert cluster.pair().certificate == pair
    cluster.checked = True
    await settle(cluster, who)
    assert cluster.pair().certificate != pair


async def test_a_lost_secret_is_made_anew_and_the_lost_ca_stays_trusted(cluster):
    await settle(cluster)
    lost = cluster.content().authority.certificate
    cluster.api.delete(SECRET)
    who = keeper(cluster)
    await who.keep(cluster.now)
    new = cluster.content().authority.certificate
    assert cluster.pair() is None
    assert cluster.data["tls.crt"] == ""
    assert cluster.bundles() == [(new, lost)] * 2
    await settle(cluster, who)
    assert cluster.bundles() == [(new, lost)] * 2
    cluster.now += VALIDITY + MINUTE
    await settle(cluster, who)
    assert cluster.bundles() == [(new,)] * 2


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_secret_is_made_whole(cluster, damage):
    who = await settle(cluster)
    cluster.api.edit(SECRET, {"data": damage})
    await settle(cluster, who)


@pytest.mark.parametrize("change", ["age", "ca.key"])
async def test_a_bundle_wiped_as_the_ca_changes_gets_both(cluster, change):
    who = await settle(cluster)
    old, pair = cluster.content().authority.certificate, cluster.pair().certificate
    if change == "age":
        await age_authority(cluster)
    else:
        await damage_authority(cluster)
    cluster.install()
    cluster.checked = False
    await who.keep(cluster.now)
    assert cluster.bundles() == [(cluster.content().authority.certificate, old)] * 2
    assert cluster.pair().certificate == pair
    await settle(cluster, who)


@pytest.mark.parametrize("changes", [1, 2])
async def test_a_shorter_validity_does_not_cut_the_life_of_what_was_served_before(cluster, changes):
    await settle(cluster)
    who = keeper(cluster, DAYS)
    for _ in range(changes):
        await damage_authority(cluster)
        await settle(cluster, who)
    for _ in range(100):
        cluster.now += DAYS
        await settle(cluster, who, passes=1)
    assert len(cluster.bundles()[0]) == 1


async def test_the_ca_of_what_is_served_outlasts_any_number_of_others(cluster):
    who = await settle(cluster)
    old, pair = cluster.content().authority.certificate, cluster.pair().certificate
    for _ in range(2 * MOST_FORMER):
        await damage_authority(cluster)
        await who.keep(cluster.now)
        assert cluster.pair().certificate == pair
        assert cluster.bundles()[0][1] == old
    await settle(cluster, who)


async def test_a_secret_without_any_data_is_filled(cluster):
    cluster.api.put(SECRET, {"type": "kubernetes.io/tls"})
    await settle(cluster)


async def test_keys_of_others_in_the_secret_are_left_alone(cluster):
    who = await settle(cluster)
    cluster.api.put(SECRET, cluster.api.find(SECRET) | {"data": {"note": "AAAA"}})
    await settle(cluster, who)
    assert cluster.data["note"] == "AAAA"


async def test_an_older_secret_from_a_backup_takes_over_without_a_gap(cluster):
    who = await settle(cluster)
    backup = cluster.api.find(SECRET)
    cluster.api.delete(SECRET)
    await settle(cluster, who)
    later = cluster.content().authority.certificate
    cluster.api.put(SECRET, backup)
    await settle(cluster, who)
    assert later in cluster.bundles()[0]


async def test_a_foreign_bundle_stays_trusted_for_a_while_but_not_without_limit(cluster):
    foreign = [make_authority(NOW).certificate for _ in range(3 * MOST_FORMER)]
    cluster.install(dump_bundle(foreign) + b"junk")
    await settle(cluster)
    assert cluster.bundles()[0][1:] == tuple(foreign[:MOST_FORMER])
    cluster.now += VALIDITY + MINUTE
    await settle(cluster)
    assert len(cluster.bundles()[0]) == 1


async def test_a_bundle_that_is_not_pem_is_replaced(cluster):
    cluster.install(b"\xff\xfe")
    await settle(cluster)


async def test_losing_the_secret_again_and_again_fills_nothing(cluster):
    who = keeper(cluster)
    for _ in range(3 * MOST_FORMER):
        await settle(cluster, who)
        cluster.served.clear()
        cluster.api.delete(SECRET)
    await settle(cluster, who)
    assert len(cluster.bundles()[0]) == MOST_FORMER + 1


async def test_a_lost_date_of_the_former_ca_is_set_anew(cluster):
    await settle(cluster)
    cluster.api.delete(SECRET)
    who = await settle(cluster)
    kept = {k: v for k, v in cluster.data.items() if k != "former-ca.until"}
    cluster.api.put(SECRET, cluster.api.find(SECRET) | {"data": kept})
    await settle(cluster, who)
    assert cluster.content().former_until >= cluster.now + VALIDITY - 10 * MINUTE


async def test_another_service_gets_another_pair(cluster):
    await settle(cluster)
    other = CertificateKeeper(
        cluster,
        secret=NamespacedName("wz", "pair"),
        configuration="wz",
        service="new",
        validity=VALIDITY,
    )
    cluster.checked = False
    await other.keep(cluster.now)
    assert trusted(cluster.pair().certificate, cluster.bundles()[0], cluster.now, "new.wz.svc")


@pytest.mark.parametrize("jump", [-400 * DAYS, -2 * DAYS, 2 * DAYS, 100 * DAYS, 4000 * DAYS])
async def test_a_clock_that_jumps_and_comes_back_leaves_nothing_broken(cluster, jump):
    who = await settle(cluster)
    right = cluster.now
    cluster.now = right + jump
    cluster.checked = False
    for _ in range(3):
        await who.keep(cluster.now)
        cluster.now += MINUTE
    cluster.now = right + 5 * MINUTE
    cluster.served.clear()
    await settle(cluster, who)


async def test_two_keepers_a_few_hours_apart_agree(cluster):
    behind, ahead = keeper(cluster), keeper(cluster)
    for _ in range(4):
        await ahead.keep(cluster.now + timedelta(hours=6))
        await behind.keep(cluster.now)
        cluster.now += MINUTE
    writes = len(cluster.writes)
    await ahead.keep(cluster.now + timedelta(hours=6))
    await behind.keep(cluster.now)
    assert len(cluster.writes) == writes
    assert cluster.steady()


async def test_a_secret_that_goes_between_reading_and_writing_is_read_again(cluster):
    who = await settle(cluster)
    cluster.now = renewal(cluster.pair().certificate)

    def vanish():
        cluster.before_write = lambda: None
        cluster.api.delete(SECRET)

    cluster.before_write = vanish
    await settle(cluster, who)


async def test_somebody_who_never_stops_changing_things_is_named(cluster):
    def disturb():
        cluster.api.put(CONFIGURATION, cluster.api.find(CONFIGURATION))

    await keeper(cluster).keep(cluster.now)
    cluster.install()
    cluster.before_write = disturb
    with pytest.raises(Unsteady, match="changed by somebody else"):
        await keeper(cluster).keep(cluster.now)


@pytest.mark.parametrize(
    ("verb", "target", "says"),
    [
        ("get", SECRET, 'get the Secret "wz/pair"; grant its service account get on it'),
        ("create", SECRET, 'create the Secret "wz/pair"'),
        ("patch", SECRET, 'patch the Secret "wz/pair"'),
        ("get", CONFIGURATION, 'get the ValidatingWebhookConfiguration "wz"'),
        ("patch", CONFIGURATION, 'patch the ValidatingWebhookConfiguration "wz"'),
    ],
)
async def test_a_missing_right_is_told_in_one_sentence(cluster, verb, target, says):
    cluster.forbidden.add((verb, target))
    with pytest.raises(RightMissing) as info:
        await keeper(cluster).keep(cluster.now)
    assert says in str(info.value)
    # It may be another reason than RBAC.
    assert str(info.value).endswith(": the API server refused (403): exceeded quota: secrets")
    cluster.forbidden.clear()
    await settle(cluster)


@pytest.mark.looptime
async def test_run_tries_again_soon_says_it_once_and_then_looks_each_minute(
    monkeypatch, caplog, looptime
):
    failing = True
    passes = []

    async def keep(self, now):
        passes.append(asyncio.get_running_loop().time())
        if failing:
            raise ConnectionFailed("the API server could not be reached")
        return keeping.RESYNC_INTERVAL

    monkeypatch.setattr(CertificateKeeper, "keep", keep)
    task = asyncio.create_task(keeper(Cluster()).run())
    await asyncio.sleep(600)
    gaps = [b - a for a, b in itertools.pairwise(passes)]
    assert gaps[0] <= 2
    assert 30 <= max(gaps) <= 60
    assert caplog.text.count("is not looked after: the API server could not be reached") == 1
    failing = False
    passes.clear()
    await asyncio.sleep(600)
    assert 10 <= len(passes) <= 12
    task.cancel()


@pytest.mark.looptime
async def test_a_surprise_does_not_end_run(monkeypatch, caplog, looptime):
    async def keep(self, now):
        raise ZeroDivisionError

    monkeypatch.setattr(CertificateKeeper, "keep", keep)
    task = asyncio.create_task(keeper(Cluster()).run())
    await asyncio.sleep(10)
    assert not task.done()
    assert "could not be looked after" in caplog.text
    task.cancel()
