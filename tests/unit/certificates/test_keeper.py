"""The keeper's writes to the Secret and the caBundle, their timing, and its log."""

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
    empty,
    lose,
    make_keeper,
    settle,
)
from tests.unit.certificates.pairs import DAYS, MINUTE, NOW, VALIDITY, trusted
from wazzup_operator.certificates import keeper as keeper_module
from wazzup_operator.certificates.issue import dump_bundle, make_authority, renewal
from wazzup_operator.certificates.keeper import (
    PROPAGATION,
    CertificateKeeper,
    Contended,
    PermissionMissing,
    SecretGone,
)
from wazzup_operator.certificates.rotation import MAX_FORMER
from wazzup_operator.kube.errors import ConnectionFailed
from wazzup_operator.resources.base import NamespacedName


async def test_the_first_attempt_fills_both_objects(cluster):
    wait = await make_keeper(cluster).reconcile(cluster.now)
    assert cluster.writes == [
        ("patch", SECRET),
        ("patch", CONFIGURATION),
        ("patch", SECRET),
    ]
    assert sorted(cluster.data) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert cluster.api.find(CONFIGURATION)["webhooks"][0]["timeoutSeconds"] == 3
    assert timedelta(0) < wait <= MINUTE
    await settle(cluster)


async def test_a_missing_configuration_is_no_error_and_is_filled_once_it_exists(cluster, caplog):
    cluster.api.delete(CONFIGURATION)
    caplog.set_level(logging.INFO)
    keeper = make_keeper(cluster)
    for _ in range(3):
        await keeper.reconcile(cluster.now)
    assert cluster.pair()
    assert caplog.text.count("does not exist yet") == 1
    cluster.install()
    cluster.checked = False
    await keeper.reconcile(cluster.now)
    assert cluster.steady()
    assert cluster.writes[-1] == ("patch", CONFIGURATION)


async def test_a_configuration_that_stays_missing_is_warned_about_once(cluster, caplog):
    cluster.api.delete(CONFIGURATION)
    keeper = make_keeper(cluster)

    async def minutes(count):
        caplog.clear()
        for _ in range(count):
            await keeper.reconcile(cluster.now)
            cluster.now += MINUTE
        return [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]

    assert await minutes(5) == []
    warning = (
        'ValidatingWebhookConfiguration "wz" has been missing for 5 minutes, so no API server calls'
        " the webhook: install it, or set --webhook-configuration to its name"
    )
    assert await minutes(20) == [warning]
    cluster.install()
    cluster.checked = False
    assert await minutes(2) == []
    cluster.api.delete(CONFIGURATION)
    assert await minutes(6) == [warning]


async def test_a_step_of_the_clock_does_not_count(cluster):
    keeper = await settle(cluster)
    cluster.now = renewal(cluster.content().authority.certificate)
    await keeper.reconcile(cluster.now)
    pair = cluster.pair().certificate
    before = cluster.elapsed
    for elapsed in (0, 29.9):
        cluster.elapsed = before + elapsed
        cluster.now += 5 * MINUTE
        await keeper.reconcile(cluster.now)
        assert cluster.pair().certificate == pair
    cluster.elapsed = before + 30
    cluster.now -= 9 * MINUTE
    await keeper.reconcile(cluster.now)
    assert cluster.pair().certificate != pair


async def test_the_pair_is_renewed_after_two_thirds_of_its_life_in_one_write(cluster):
    keeper = await settle(cluster)
    first, authority = cluster.pair(), cluster.content().authority
    cluster.now = renewal(first.certificate) - MINUTE
    writes = len(cluster.writes)
    assert await keeper.reconcile(cluster.now) <= MINUTE
    assert len(cluster.writes) == writes
    cluster.now += MINUTE
    await keeper.reconcile(cluster.now)
    assert cluster.writes[writes:] == [("patch", SECRET)]
    assert cluster.pair().certificate != first.certificate
    assert cluster.content().authority.certificate == authority.certificate


async def test_a_wiped_bundle_is_restored_by_the_next_attempt(cluster):
    keeper = await settle(cluster)
    cluster.install()
    writes = len(cluster.writes)
    await keeper.reconcile(cluster.now)
    assert cluster.writes[writes:] == [("patch", CONFIGURATION)]
    assert cluster.steady()


async def test_a_rotation_trusts_the_new_ca_before_it_serves_a_pair_signed_by_it(cluster, caplog):
    caplog.set_level(logging.INFO)
    keeper = await settle(cluster)
    old, old_pair = cluster.content().authority.certificate, cluster.pair().certificate
    cluster.now = renewal(old)
    old_pair = cluster.pair().certificate
    wait = await keeper.reconcile(cluster.now)
    new = cluster.content().authority.certificate
    assert new != old
    assert cluster.pair().certificate == old_pair
    assert cluster.bundles() == [(new, old)] * 2
    assert wait == PROPAGATION
    cluster.now += PROPAGATION - timedelta(seconds=1)
    await keeper.reconcile(cluster.now)
    assert cluster.pair().certificate == old_pair
    cluster.now += timedelta(seconds=1)
    await keeper.reconcile(cluster.now)
    assert cluster.pair().certificate != old_pair
    assert cluster.bundles() == [(new, old)] * 2
    cluster.now += VALIDITY
    await keeper.reconcile(cluster.now - MINUTE)
    assert cluster.bundles() == [(new, old)] * 2
    await keeper.reconcile(cluster.now + MINUTE)
    assert cluster.bundles() == [(new,)] * 2
    assert sorted(cluster.data) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    ca, pair = "Issued a CA for the", "Issued a serving certificate for the"
    trusted_now = "Updated the caBundle of the webhook configuration"
    assert caplog.messages == [
        f"{ca} webhook's certificate: there was no usable one",
        trusted_now,
        f"{pair} webhook: the previous one was missing or damaged",
        f"{ca} webhook's certificate: the previous one is past two thirds of its life",
        trusted_now,
        f"{pair} webhook: the previous one is signed by another CA",
        f"{pair} webhook: the previous one is past two thirds of its life",
        trusted_now,
        "Dropped the former CAs of the webhook's certificate: everything they signed has expired",
    ]


async def test_a_bundle_wiped_during_a_rotation_restarts_the_propagation(cluster):
    keeper = await settle(cluster)
    cluster.now = renewal(cluster.content().authority.certificate)
    await keeper.reconcile(cluster.now)
    pair = cluster.pair().certificate
    cluster.now += MINUTE
    cluster.install()
    cluster.checked = False
    await keeper.reconcile(cluster.now)
    assert cluster.pair().certificate == pair
    cluster.checked = True
    await settle(cluster, keeper)
    assert cluster.pair().certificate != pair


@pytest.mark.parametrize("mishap", [lose, empty])
async def test_an_emptied_secret_is_filled_and_the_lost_ca_stays_trusted(cluster, mishap):
    await settle(cluster)
    lost = cluster.content().authority.certificate
    await mishap(cluster)
    keeper = make_keeper(cluster)
    await keeper.reconcile(cluster.now)
    new = cluster.content().authority.certificate
    assert cluster.pair() is None
    assert cluster.data["tls.crt"] == ""
    assert cluster.bundles() == [(new, lost)] * 2
    await settle(cluster, keeper)
    assert cluster.bundles() == [(new, lost)] * 2
    cluster.now += VALIDITY + MINUTE
    await settle(cluster, keeper)
    assert cluster.bundles() == [(new,)] * 2


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_secret_is_repaired(cluster, damage):
    keeper = await settle(cluster)
    cluster.api.edit(SECRET, {"data": damage})
    await settle(cluster, keeper)


@pytest.mark.parametrize("change", ["age", "ca.key"])
async def test_a_bundle_wiped_as_a_rotation_starts_gets_both_cas(cluster, change):
    keeper = await settle(cluster)
    old, pair = cluster.content().authority.certificate, cluster.pair().certificate
    if change == "age":
        await age_authority(cluster)
    else:
        await damage_authority(cluster)
    cluster.install()
    cluster.checked = False
    await keeper.reconcile(cluster.now)
    assert cluster.bundles() == [(cluster.content().authority.certificate, old)] * 2
    assert cluster.pair().certificate == pair
    await settle(cluster, keeper)


@pytest.mark.parametrize("rotations", [1, 2])
async def test_a_shorter_validity_does_not_shorten_the_trust_in_earlier_pairs(cluster, rotations):
    await settle(cluster)
    keeper = make_keeper(cluster, DAYS)
    for _ in range(rotations):
        await damage_authority(cluster)
        await settle(cluster, keeper)
    for _ in range(100):
        cluster.now += DAYS
        await settle(cluster, keeper, attempts=1)
    assert len(cluster.bundles()[0]) == 1


async def test_the_limit_of_former_cas_never_drops_the_ca_of_the_served_pair(cluster):
    keeper = await settle(cluster)
    old, pair = cluster.content().authority.certificate, cluster.pair().certificate
    for _ in range(2 * MAX_FORMER):
        await damage_authority(cluster)
        await keeper.reconcile(cluster.now)
        assert cluster.pair().certificate == pair
        assert cluster.bundles()[0][1] == old
    await settle(cluster, keeper)


async def test_a_deleted_secret_is_reported_and_changes_nothing(cluster):
    keeper = await settle(cluster)
    bundles = cluster.bundles()
    cluster.api.delete(SECRET)
    with pytest.raises(SecretGone) as info:
        await keeper.reconcile(cluster.now)
    assert str(info.value) == (
        'Secret "wz/pair" does not exist; apply the release again (helm upgrade, GitOps sync or'
        " kubectl apply), which creates it empty"
    )
    assert cluster.bundles() == bundles
    assert not cluster.api.find(SECRET)


async def test_other_keys_in_the_secret_are_kept(cluster):
    keeper = await settle(cluster)
    cluster.api.put(SECRET, cluster.api.find(SECRET) | {"data": {"note": "AAAA"}})
    await settle(cluster, keeper)
    assert cluster.data["note"] == "AAAA"


async def test_an_older_secret_restored_from_a_backup_is_used_without_a_gap(cluster):
    keeper = await settle(cluster)
    backup = cluster.api.find(SECRET)
    cluster.empty()
    await settle(cluster, keeper)
    later = cluster.content().authority.certificate
    cluster.api.put(SECRET, backup)
    await settle(cluster, keeper)
    assert later in cluster.bundles()[0]


async def test_a_foreign_bundle_stays_trusted_within_the_limit_until_it_expires(cluster, caplog):
    caplog.set_level(logging.INFO)
    foreign = [make_authority(NOW).certificate for _ in range(3 * MAX_FORMER)]
    cluster.install(dump_bundle(foreign) + b"junk")
    await settle(cluster)
    assert cluster.bundles()[0][1:] == tuple(foreign[:MAX_FORMER])
    assert "Updated the former CAs of the webhook's certificate" in caplog.messages
    cluster.now += VALIDITY + MINUTE
    await settle(cluster)
    assert len(cluster.bundles()[0]) == 1


async def test_a_bundle_that_is_not_pem_is_replaced(cluster):
    cluster.install(b"\xff\xfe")
    await settle(cluster)


async def test_losing_the_secret_repeatedly_does_not_grow_the_bundle(cluster):
    keeper = make_keeper(cluster)
    for _ in range(3 * MAX_FORMER):
        await settle(cluster, keeper)
        cluster.served.clear()
        cluster.empty()
    await settle(cluster, keeper)
    assert len(cluster.bundles()[0]) == MAX_FORMER + 1


async def test_a_lost_date_of_the_former_ca_is_set_again(cluster):
    await settle(cluster)
    cluster.empty()
    keeper = await settle(cluster)
    kept = {k: v for k, v in cluster.data.items() if k != "former-ca.until"}
    cluster.api.put(SECRET, cluster.api.find(SECRET) | {"data": kept})
    await settle(cluster, keeper)
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
    await other.reconcile(cluster.now)
    assert trusted(cluster.pair().certificate, cluster.bundles()[0], cluster.now, "new.wz.svc")


@pytest.mark.parametrize("jump", [-400 * DAYS, -2 * DAYS, 2 * DAYS, 100 * DAYS, 4000 * DAYS])
async def test_it_recovers_from_a_clock_that_jumps_and_returns(cluster, jump):
    keeper = await settle(cluster)
    right = cluster.now
    cluster.now = right + jump
    cluster.checked = False
    for _ in range(3):
        await keeper.reconcile(cluster.now)
        cluster.now += MINUTE
    cluster.now = right + 5 * MINUTE
    cluster.served.clear()
    await settle(cluster, keeper)


async def test_two_keepers_whose_clocks_differ_by_hours_agree(cluster):
    behind, ahead = make_keeper(cluster), make_keeper(cluster)
    for _ in range(4):
        await ahead.reconcile(cluster.now + timedelta(hours=6))
        await behind.reconcile(cluster.now)
        cluster.now += MINUTE
    writes = len(cluster.writes)
    await ahead.reconcile(cluster.now + timedelta(hours=6))
    await behind.reconcile(cluster.now)
    assert len(cluster.writes) == writes
    assert cluster.steady()


async def test_a_secret_deleted_between_read_and_write_is_read_again(cluster):
    keeper = await settle(cluster)
    cluster.now = renewal(cluster.pair().certificate)

    def vanish():
        cluster.before_write = lambda: None
        cluster.api.delete(SECRET)

    cluster.before_write = vanish
    with pytest.raises(SecretGone):
        await keeper.reconcile(cluster.now)
    cluster.empty()
    await settle(cluster, keeper)


async def test_constant_changes_by_somebody_else_are_reported(cluster):
    def disturb():
        cluster.api.put(CONFIGURATION, cluster.api.find(CONFIGURATION))

    await make_keeper(cluster).reconcile(cluster.now)
    cluster.install()
    cluster.before_write = disturb
    with pytest.raises(Contended) as info:
        await make_keeper(cluster).reconcile(cluster.now)
    assert str(info.value) == (
        'somebody else keeps changing Secret "wz/pair" or ValidatingWebhookConfiguration "wz"; let'
        " only one operator manage them, and not cert-manager"
    )


@pytest.mark.parametrize(
    ("verb", "target", "sentence"),
    [
        ("get", SECRET, 'the operator may not get Secret "wz/pair": the API server refused'),
        ("patch", SECRET, 'patch Secret "wz/pair"'),
        ("get", CONFIGURATION, 'get ValidatingWebhookConfiguration "wz"'),
        ("patch", CONFIGURATION, 'patch ValidatingWebhookConfiguration "wz"'),
    ],
)
async def test_a_missing_permission_is_named(cluster, verb, target, sentence):
    cluster.forbidden.add((verb, target))
    with pytest.raises(PermissionMissing) as info:
        await make_keeper(cluster).reconcile(cluster.now)
    assert sentence in str(info.value)
    assert str(info.value).endswith(
        f": the API server refused (403); grant its service account {verb} on it, or find the quota"
        " or admission rule that refuses it"
    )
    cluster.forbidden.clear()
    await settle(cluster)


@pytest.mark.looptime
async def test_run_retries_with_backoff_logs_once_and_then_resyncs_each_minute(
    monkeypatch, caplog, looptime
):
    failing = True
    attempts = []

    async def reconcile(self, now):
        attempts.append(asyncio.get_running_loop().time())
        if failing:
            raise ConnectionFailed("the API server could not be reached")
        return keeper_module.RESYNC_INTERVAL

    monkeypatch.setattr(CertificateKeeper, "reconcile", reconcile)
    keeper = make_keeper(Cluster())
    assert keeper.maintained is None
    task = asyncio.create_task(keeper.run())
    await asyncio.sleep(600)
    assert keeper.maintained is False
    gaps = [b - a for a, b in itertools.pairwise(attempts)]
    assert gaps[0] <= 2
    assert 30 <= max(gaps) <= 60
    assert (
        caplog.text.count(
            "Cannot maintain the webhook's certificate: the API server could not be reached"
        )
        == 1
    )
    failing = False
    attempts.clear()
    await asyncio.sleep(600)
    assert 10 <= len(attempts) <= 12
    assert keeper.maintained is True
    failing = True
    attempts.clear()
    await asyncio.sleep(120)
    assert attempts[1] - attempts[0] <= 2
    task.cancel()


@pytest.mark.looptime
async def test_an_unexpected_error_does_not_end_run(monkeypatch, caplog, looptime):
    async def reconcile(self, now):
        raise ZeroDivisionError

    monkeypatch.setattr(CertificateKeeper, "reconcile", reconcile)
    task = asyncio.create_task(make_keeper(Cluster()).run())
    await asyncio.sleep(10)
    assert not task.done()
    assert "Cannot maintain the webhook's certificate: unexpected error\n" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    task.cancel()
