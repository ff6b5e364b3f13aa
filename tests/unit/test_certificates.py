"""The webhook's certificates: how they are made, kept through every mishap, and loaded."""

import asyncio
import base64
import copy
import itertools
import logging
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from hypothesis import given, settings
from hypothesis import strategies as st

from wazzup_operator.certificates import keeper as keeping
from wazzup_operator.certificates.content import Content, differences, read
from wazzup_operator.certificates.issue import (
    AUTHORITY_VALIDITY,
    BACKDATE,
    Pair,
    Unusable,
    authority_problem,
    dump_bundle,
    load_bundle,
    load_pair,
    make_authority,
    make_serving,
    renewal,
    service_names,
    serving_problem,
)
from wazzup_operator.certificates.keeper import SETTLE, CertificateKeeper, RightMissing, Unsteady
from wazzup_operator.certificates.loader import CertificateLoader
from wazzup_operator.certificates.rotation import MOST_FORMER
from wazzup_operator.kube.errors import ConnectionFailed, Refused
from wazzup_operator.resources.base import NamespacedName

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAYS = timedelta(days=1)
MINUTE = timedelta(minutes=1)
VALIDITY = 90 * DAYS
NAMES = service_names("hook", "wz")
SECRET = "/api/v1/namespaces/wz/secrets/pair"
CONFIGURATION = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/wz"


@pytest.fixture(scope="module", autouse=True)
def no_implicit_event_loop():
    """Before Python 3.14, pytest-asyncio asks for a loop that is then made and never closed."""
    asyncio.set_event_loop(None)


# What is issued


@pytest.fixture(scope="module")
def authority():
    return make_authority(NOW)


def trusted(certificate, authorities, now, name="hook.wz.svc"):
    """Ask a verifier that is not ours, and strict (the CA/Browser Forum's profile)."""
    if not authorities:
        return False
    policy = verification.PolicyBuilder().store(verification.Store(authorities)).time(now)
    try:
        policy.build_server_verifier(x509.DNSName(name)).verify(certificate, [])
    except verification.VerificationError:
        return False
    return True


def test_a_serving_certificate_is_for_every_name_of_the_service_and_for_nothing_else(authority):
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    for name in ("hook", "hook.wz", "hook.wz.svc", "hook.wz.svc.cluster.local"):
        assert trusted(pair.certificate, [authority.certificate], NOW, name)
    assert not trusted(pair.certificate, [authority.certificate], NOW, "hook.other.svc")
    assert not trusted(pair.certificate, [make_authority(NOW).certificate], NOW)


def test_certificates_are_valid_from_a_day_before_to_the_end_of_their_validity(authority):
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    assert pair.certificate.not_valid_before_utc == NOW - DAYS
    assert pair.certificate.not_valid_after_utc == NOW + VALIDITY
    assert authority.certificate.not_valid_after_utc == NOW + AUTHORITY_VALIDITY
    assert trusted(pair.certificate, [authority.certificate], NOW - DAYS)
    assert not trusted(pair.certificate, [authority.certificate], NOW - DAYS - MINUTE)


def test_a_serving_certificate_does_not_outlive_its_authority(authority):
    late = NOW + AUTHORITY_VALIDITY - DAYS
    pair = make_serving(authority, NAMES, late, VALIDITY)
    assert pair.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize("validity", [timedelta(seconds=30), DAYS, VALIDITY])
def test_renewal_is_at_two_thirds_of_the_life_without_the_backdated_day(authority, validity):
    pair = make_serving(authority, NAMES, NOW, validity)
    assert renewal(pair.certificate) == NOW + validity * 2 / 3
    due = NOW + validity * 2 / 3
    assert serving_problem(pair, authority.certificate, NAMES, due - timedelta(seconds=1)) is None
    assert "two thirds" in serving_problem(pair, authority.certificate, NAMES, due)


def test_names_of_the_greatest_length_fit(authority):
    names = service_names("s" * 63, "n" * 63)
    assert trusted(
        make_serving(authority, names, NOW, VALIDITY).certificate,
        [authority.certificate],
        NOW,
        names[2],
    )


def test_what_is_wrong_with_a_pair_is_found(authority):
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    other = make_authority(NOW).certificate
    at = NOW + MINUTE
    assert serving_problem(pair, authority.certificate, NAMES, at) is None
    assert serving_problem(pair, other, NAMES, at) == "is of another CA"
    assert serving_problem(pair, authority.certificate, ("x.wz",), at) == "is for another Service"
    assert serving_problem(pair, authority.certificate, NAMES, NOW - 2 * DAYS) == (
        "is not valid yet"
    )
    assert serving_problem(pair, authority.certificate, NAMES, at + VALIDITY) == "has expired"
    assert authority_problem(authority, at) is None
    assert authority_problem(pair, at) == "is none"
    assert authority_problem(authority, NOW + AUTHORITY_VALIDITY * 0.7)


def test_no_key_is_shown(authority):
    shown = repr(Content(authority, authority, (authority.certificate,), NOW))
    assert "PRIVATE" not in shown
    assert "key" not in repr(authority)


def test_pairs_that_are_none_are_refused(authority):
    certificate, key = dump_bundle([authority.certificate]), authority.key_pem
    assert load_pair(certificate, key).certificate == authority.certificate
    for bad_certificate, bad_key in (
        (b"", key),
        (certificate, b""),
        (certificate[:200], key),
        (certificate, key[:100]),
        (certificate, make_authority(NOW).key_pem),
        (certificate + b"-----BEGIN CERTIFICATE-----\nMIIB", key),
        (certificate + certificate, key),
    ):
        with pytest.raises(Unusable) as info:
            load_pair(bad_certificate, bad_key)
        assert "BEGIN" not in str(info.value)


def test_an_encrypted_or_foreign_key_is_refused(authority):
    certificate = dump_bundle([authority.certificate])
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    with pytest.raises(Unusable):
        load_pair(certificate, authority.key.private_bytes(*form, secret))
    other = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(Unusable):
        load_pair(certificate, Pair(authority.certificate, other).key_pem)


def test_a_bundle_is_read_past_damage_and_each_certificate_once(authority):
    other = make_authority(NOW).certificate
    bundle = dump_bundle([authority.certificate, other])
    assert load_bundle(bundle + b"junk" + bundle) == (authority.certificate, other)
    assert load_bundle(bundle[300:]) == (other,)
    assert load_bundle(b"") == load_bundle(b"\xff\x00-----END CERTIFICATE-----") == ()


def of_a_version_that_is_none(pair):
    """Return the pair's certificate with 31 for its version; 2, which means 3, is the greatest."""
    der = bytearray(pair.certificate.public_bytes(serialization.Encoding.DER))
    begin = bytes.fromhex("a003020102")
    assert der.count(begin) == 1
    der[der.index(begin) + 4] = 31
    body = base64.encodebytes(bytes(der))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"


def test_a_version_that_is_none_is_damage_too(authority):
    damaged = of_a_version_that_is_none(authority)
    with pytest.raises(Unusable, match="its certificate cannot be read"):
        load_pair(damaged, authority.key_pem)
    other = make_authority(NOW).certificate
    assert load_bundle(damaged + dump_bundle([other])) == (other,)


KEYS = ["ca.crt", "ca.key", "former-ca.crt", "former-ca.until", "tls.crt", "tls.key"]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(KEYS),
    st.integers(0, 2000),
    st.integers(0, 255),
    st.integers(0, 2000),
    st.text(),
)
def test_a_damaged_secret_never_raises(key, place, byte, length, text):
    authority = make_authority(NOW)
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    encoded = differences(Content(authority, pair, (authority.certificate,), NOW), {})
    assert sorted(encoded) == KEYS
    assert differences(read(encoded), encoded) == {}
    content = bytearray(base64.b64decode(encoded[key]))
    content[place % len(content)] = byte
    read(encoded | {key: base64.b64encode(content).decode()})
    read(encoded | {key: base64.b64encode(content[:length]).decode()})
    read(encoded | {key: text})


# How they are kept


class Killed(BaseException):
    """The process was ended by kill -9."""


class Cluster:
    """Two objects as an API server holds them; every write is checked against the invariant."""

    def __init__(self):
        self.objects = {}
        self.version = 0
        self.writes = []
        self.now = NOW
        self.stepped = None
        self.kill_at = None
        """Which write, counted from now, is the last one; x.5: it is stored, but not answered."""
        self.forbidden = set()
        self.served = []
        """Every serving certificate that was ever in the Secret."""
        self.before_write = lambda: None
        self.checked = True

    @property
    def elapsed(self):
        """The monotonic time: it goes with `now` until it is set."""
        return (self.now - NOW).total_seconds() if self.stepped is None else self.stepped

    @elapsed.setter
    def elapsed(self, seconds):
        self.stepped = seconds

    def install(self, bundle=None):
        """Do what helm does: webhooks without a caBundle."""
        self.put(
            CONFIGURATION,
            {
                "webhooks": [
                    {
                        "name": f"{kind}.wazzup.dev",
                        "timeoutSeconds": 3,
                        "clientConfig": {"service": {"name": "hook"}}
                        | ({"caBundle": base64.b64encode(bundle).decode()} if bundle else {}),
                    }
                    for kind in ("channel", "account")
                ]
            },
        )

    def put(self, target, body):
        self.version += 1
        body = copy.deepcopy(body)
        body.setdefault("metadata", {})["resourceVersion"] = str(self.version)
        self.objects[target] = body

    async def get(self, target):
        await asyncio.sleep(0)
        self._may("get", target)
        if target not in self.objects:
            raise Refused(404, "not found")
        return copy.deepcopy(self.objects[target])

    async def create(self, target, body):
        target = f"{target}/{body['metadata']['name']}"
        await self._write("create", target)
        if target in self.objects:
            raise Refused(409, "already exists")
        return self._stored(target, body, "create")

    async def merge_patch(self, target, body):
        await self._write("patch", target)
        if target not in self.objects:
            raise Refused(404, "not found")
        stored = copy.deepcopy(self.objects[target])
        if body["metadata"]["resourceVersion"] != stored["metadata"]["resourceVersion"]:
            raise Refused(409, "the object has been modified")
        for key, value in body.items():
            stored[key] = stored.get(key, {}) | value if isinstance(value, dict) else value
        stored["data"] = {k: v for k, v in stored.get("data", {}).items() if v is not None}
        return self._stored(target, stored, "patch")

    def _may(self, verb, target):
        if (verb, target) in self.forbidden:
            raise Refused(403, "the API server refused (403): exceeded quota: secrets")

    async def _write(self, verb, target):
        await asyncio.sleep(0)
        self.before_write()
        self._may(verb, target)
        if self.kill_at is not None and self.kill_at <= 0:
            raise Killed

    def _stored(self, target, body, verb):
        changed = {k: v for k, v in body.items() if k != "metadata"}
        known = self.objects.get(target, {})
        assert changed != {k: v for k, v in known.items() if k != "metadata"}, "a needless write"
        self.put(target, body)
        self.writes.append((verb, target))
        if self.pair() and self.pair().certificate not in self.served:
            self.served.append(self.pair().certificate)
        if self.checked:
            self.assert_trusted()
        if self.kill_at is not None:
            self.kill_at -= 1
            if self.kill_at == -0.5:
                raise Killed
        return copy.deepcopy(self.objects[target])

    @property
    def data(self):
        return self.objects[SECRET]["data"]

    def content(self):
        return read(self.data) if SECRET in self.objects else Content()

    def pair(self):
        return self.content().serving

    def bundles(self):
        webhooks = self.objects.get(CONFIGURATION, {"webhooks": []})["webhooks"]
        return [
            load_bundle(base64.b64decode(webhook["clientConfig"].get("caBundle", "")))
            for webhook in webhooks
        ]

    def assert_trusted(self):
        """What may be served now, from the Secret or from a pod's older copy of it, is trusted."""
        for bundle in self.bundles():
            for certificate in self.served:
                begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
                if begin <= self.now < end:
                    assert trusted(certificate, bundle, self.now), "served but not trusted"

    def steady(self):
        authority = self.content().authority
        pair = self.pair()
        return (
            pair is not None
            and serving_problem(pair, authority.certificate, NAMES, self.now) is None
            and all(authority.certificate in bundle for bundle in self.bundles())
        )


def keeper(cluster, validity=VALIDITY):
    return CertificateKeeper(
        cluster,
        secret=NamespacedName("wz", "pair"),
        configuration="wz",
        service="hook",
        validity=validity,
        monotonic=lambda: cluster.elapsed,
    )


async def settle(cluster, who=None, passes=3):
    """Have a pass each minute; then, for nothing to differ, one more that writes nothing."""
    who = who or keeper(cluster)
    for _ in range(passes):
        await who.keep(cluster.now)
        cluster.now += MINUTE
    before = len(cluster.writes)
    await who.keep(cluster.now)
    assert len(cluster.writes) == before, "a write in steady state"
    assert cluster.steady()
    cluster.assert_trusted()
    return who


@pytest.fixture
def cluster():
    cluster = Cluster()
    cluster.install()
    return cluster


async def test_the_first_pass_makes_everything(cluster):
    wait = await keeper(cluster).keep(cluster.now)
    assert cluster.writes == [
        ("create", SECRET),
        ("patch", CONFIGURATION),
        ("patch", SECRET),
    ]
    secret = cluster.objects[SECRET]
    assert secret["type"] == "kubernetes.io/tls"
    assert sorted(secret["data"]) == ["ca.crt", "ca.key", "tls.crt", "tls.key"]
    assert "app.kubernetes.io/instance" not in secret["metadata"]["labels"]
    assert cluster.objects[CONFIGURATION]["webhooks"][0]["timeoutSeconds"] == 3
    assert timedelta(0) < wait <= MINUTE
    await settle(cluster)


async def test_a_missing_configuration_is_no_error_and_is_filled_once_there(cluster, caplog):
    del cluster.objects[CONFIGURATION]
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
    del cluster.objects[CONFIGURATION]
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
    del cluster.objects[CONFIGURATION]
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
    del cluster.objects[SECRET]
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


DAMAGES = {
    "no pair": {"tls.crt": "", "tls.key": ""},
    "no serving key": {"tls.key": base64.b64encode(b"junk").decode()},
    "another's serving key": {"tls.key": base64.b64encode(make_authority(NOW).key_pem).decode()},
    "no CA key": {"ca.key": ""},
    "no CA": {"ca.crt": "", "ca.key": ""},
    "another's CA key": {"ca.key": base64.b64encode(make_authority(NOW).key_pem).decode()},
    "nothing": {"tls.crt": "", "tls.key": "", "ca.crt": "", "ca.key": ""},
    "not base64 of PEM": dict.fromkeys(("tls.crt", "tls.key", "ca.crt", "ca.key"), "AAAA"),
    **{
        f"no such version of {key}": {
            key: base64.b64encode(of_a_version_that_is_none(make_authority(NOW))).decode()
        }
        for key in ("tls.crt", "ca.crt", "former-ca.crt")
    },
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_damaged_secret_is_made_whole(cluster, damage):
    who = await settle(cluster)
    cluster.put(SECRET, cluster.objects[SECRET] | {"data": cluster.data | damage})
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
    cluster.put(SECRET, {"type": "kubernetes.io/tls"})
    await settle(cluster)


async def test_keys_of_others_in_the_secret_are_left_alone(cluster):
    who = await settle(cluster)
    cluster.put(SECRET, cluster.objects[SECRET] | {"data": {"note": "AAAA"}})
    await settle(cluster, who)
    assert cluster.data["note"] == "AAAA"


async def test_an_older_secret_from_a_backup_takes_over_without_a_gap(cluster):
    who = await settle(cluster)
    backup = copy.deepcopy(cluster.objects[SECRET])
    del cluster.objects[SECRET]
    await settle(cluster, who)
    later = cluster.content().authority.certificate
    cluster.put(SECRET, backup)
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
        del cluster.objects[SECRET]
    await settle(cluster, who)
    assert len(cluster.bundles()[0]) == MOST_FORMER + 1


async def test_a_lost_date_of_the_former_ca_is_set_anew(cluster):
    await settle(cluster)
    del cluster.objects[SECRET]
    who = await settle(cluster)
    kept = {k: v for k, v in cluster.data.items() if k != "former-ca.until"}
    cluster.put(SECRET, cluster.objects[SECRET] | {"data": kept})
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


async def lose(cluster):
    del cluster.objects[SECRET]


async def age_authority(cluster):
    cluster.now = renewal(cluster.content().authority.certificate)
    cluster.served.clear()


async def age_pair(cluster):
    cluster.now = renewal(cluster.pair().certificate)


async def damage_authority(cluster):
    cluster.put(SECRET, cluster.objects[SECRET] | {"data": cluster.data | DAMAGES["no CA key"]})


async def damage_pair(cluster):
    cluster.put(SECRET, cluster.objects[SECRET] | {"data": cluster.data | DAMAGES["no pair"]})


async def end_overlap(cluster):
    del cluster.objects[SECRET]
    await settle(cluster)
    cluster.now += VALIDITY + MINUTE


async def nothing(cluster):
    cluster.objects.clear()
    cluster.served.clear()
    cluster.install()


MISHAPS = [lose, age_authority, age_pair, damage_authority, damage_pair, end_overlap, nothing]


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "unanswered"])
@pytest.mark.parametrize("mishap", MISHAPS)
async def test_killed_at_any_write_it_converges_and_what_is_served_is_always_trusted(
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
    pytest.fail("it never came to an end")


@pytest.mark.parametrize("mishap", MISHAPS)
async def test_killed_after_each_single_write_it_still_converges(mishap):
    cluster = Cluster()
    cluster.install()
    await settle(cluster)
    await mishap(cluster)
    who = keeper(cluster)
    for _ in range(12):
        cluster.kill_at = 0.5
        try:
            await who.keep(cluster.now)
        except Killed:
            who = keeper(cluster)
        cluster.now += MINUTE
    cluster.kill_at = None
    await settle(cluster, passes=0)


@pytest.mark.parametrize("mishap", MISHAPS)
@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2), max_size=60))
async def test_keepers_at_once_in_any_order_do_no_harm(mishap, order):
    cluster = Cluster()
    cluster.install()
    await settle(cluster)
    await mishap(cluster)
    keepers = [keeper(cluster) for _ in range(3)]
    alive = dict(enumerate(who.keep(cluster.now) for who in keepers))
    # Each goes one request further at a time, in an order that no event loop would choose; what is
    # left over then goes in turns.
    for which in [*order, *[0, 1, 2] * 100]:
        if which in alive:
            try:
                alive[which].send(None)
            except StopIteration:
                del alive[which]
    assert not alive
    for _ in range(3):
        cluster.now += MINUTE
        await asyncio.gather(*(who.keep(cluster.now) for who in keepers))
    await settle(cluster, keepers[0], passes=0)


async def test_a_secret_that_goes_between_reading_and_writing_is_read_again(cluster):
    who = await settle(cluster)
    cluster.now = renewal(cluster.pair().certificate)

    def vanish():
        cluster.before_write = lambda: None
        del cluster.objects[SECRET]

    cluster.before_write = vanish
    await settle(cluster, who)


async def test_somebody_who_never_stops_changing_things_is_named(cluster):
    def disturb():
        cluster.put(CONFIGURATION, cluster.objects[CONFIGURATION])

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


async def test_no_key_reaches_a_log(cluster, caplog):
    caplog.set_level(logging.DEBUG)
    who = await settle(cluster)
    for mishap in MISHAPS:
        await mishap(cluster)
        await settle(cluster, who)
    secrets = {base64.b64decode(cluster.data[key]).split(b"\n")[1] for key in ("tls.key", "ca.key")}
    assert caplog.text
    assert "PRIVATE" not in caplog.text
    assert not any(secret.decode() in caplog.text for secret in secrets)


# How they are loaded


def mount(directory, pair):
    """Write as the kubelet does: a new directory, and one symbolic link swapped."""
    version = directory / f"..{id(pair)}"
    version.mkdir()
    (version / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (version / "tls.key").write_bytes(pair.key_pem)
    link = directory / "..data_tmp"
    link.symlink_to(version.name)
    link.rename(directory / "..data")
    for name in ("tls.crt", "tls.key"):
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


def serving(authority, now=None):
    return make_serving(authority, NAMES, now or datetime.now(UTC), VALIDITY)


@pytest.fixture
def fresh():
    return make_authority(datetime.now(UTC))


def trust(*authorities):
    context = ssl.create_default_context(
        cadata=dump_bundle([each.certificate for each in authorities]).decode()
    )
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    return context


class Server:
    """Echoes lines over TLS with the loader's context."""

    def __init__(self, context):
        self._context = context

    async def __aenter__(self):
        self._server = await asyncio.start_server(
            self._echo, "127.0.0.1", 0, ssl=self._context, ssl_handshake_timeout=5
        )
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _echo(self, reader, writer):
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    async def connect(self, context, name="hook.wz.svc"):
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=context, server_hostname=name
        )
        return Client(reader, writer)


class Client:
    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        tls = writer.get_extra_info("ssl_object")
        self.version = tls.version()
        self.certificate = x509.load_der_x509_certificate(tls.getpeercert(binary_form=True))

    async def echoes(self):
        self._writer.write(b"hello\n")
        return await self._reader.readline() == b"hello\n"

    async def close(self):
        self._writer.close()
        await self._writer.wait_closed()


async def test_fifty_clients_across_a_renewal_and_a_change_of_ca_never_notice(tmp_path, fresh):
    other = make_authority(datetime.now(UTC))
    context = trust(fresh, other)
    pairs = [serving(fresh), serving(fresh), serving(other)]
    certificates = [pair.certificate for pair in pairs]
    mount(tmp_path, pairs[0])
    loader = CertificateLoader(tmp_path)
    loader.load()
    async with Server(loader.context) as server:
        standing = [await server.connect(context) for _ in range(50)]
        stop = asyncio.Event()

        async def hammer():
            seen = []
            while not stop.is_set():
                client = await server.connect(context)
                assert await client.echoes()
                seen.append(certificates.index(client.certificate))
                await client.close()
            return seen

        clients = [asyncio.create_task(hammer()) for _ in range(50)]
        for pair in pairs[1:]:
            for _ in range(3):
                probe = await server.connect(context)
                await probe.close()
            mount(tmp_path, pair)
            loader.load()
            probe = await server.connect(context)
            assert probe.certificate == pair.certificate
            await probe.close()
        stop.set()
        for seen in await asyncio.gather(*clients):
            assert seen == sorted(seen)
        assert all([await client.echoes() for client in standing])
        assert {client.certificate for client in standing} == {pairs[0].certificate}
        for client in standing:
            await client.close()
    assert loader.expires == pairs[-1].certificate.not_valid_after_utc


async def test_clients_without_a_server_name_get_the_newest_pair_too(tmp_path, fresh):
    mount(tmp_path, serving(fresh))
    loader = CertificateLoader(tmp_path)
    loader.load()
    newest = serving(fresh)
    mount(tmp_path, newest)
    loader.load()
    context = trust(fresh)
    context.check_hostname = False
    async with Server(loader.context) as server:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = version
            client = await server.connect(context, "")
            assert client.certificate == newest.certificate
            assert client.version == version.name.replace("_", ".")
            await client.close()


async def test_old_versions_of_tls_and_handshakes_before_the_first_pair_are_refused(
    tmp_path, fresh
):
    loader = CertificateLoader(tmp_path)
    loader.load()
    assert not loader.loaded
    assert loader.expires is None
    assert loader.context.minimum_version == ssl.TLSVersion.TLSv1_2
    async with Server(loader.context) as server:
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await server.connect(trust(fresh))
        mount(tmp_path, serving(fresh))
        loader.load()
        assert loader.loaded
        client = await server.connect(trust(fresh))
        assert await client.echoes()
        await client.close()


BROKEN = {
    "empty": (b"", b""),
    "garbage": (b"junk", b"junk"),
    "half": (None, b"-----BEGIN PRIVATE KEY-----\nMII"),
    "mismatch": (None, make_authority(NOW).key_pem),
    "no key": (None, b""),
    "no such version": (of_a_version_that_is_none(make_authority(NOW)), b"junk"),
}


@pytest.mark.parametrize(("certificate", "key"), BROKEN.values(), ids=BROKEN)
async def test_a_broken_pair_changes_nothing_and_is_told_once(
    tmp_path, fresh, caplog, certificate, key
):
    told = []
    first, later = serving(fresh), serving(fresh)
    mount(tmp_path, first)
    loader = CertificateLoader(tmp_path, told.append)
    loader.load()
    version = tmp_path / "..broken"
    version.mkdir()
    (version / "tls.crt").write_bytes(
        dump_bundle([later.certificate]) if certificate is None else certificate
    )
    (version / "tls.key").write_bytes(key)
    (tmp_path / "..data").unlink()
    (tmp_path / "..data").symlink_to("..broken")
    for _ in range(5):
        loader.load()
    assert told == [True, False]
    assert caplog.text.count("No certificate was loaded") == 1
    assert "stays in use" in caplog.text
    assert "PRIVATE" not in caplog.text
    async with Server(loader.context) as server:
        client = await server.connect(trust(fresh))
        assert client.certificate == first.certificate
        await client.close()
    mount(tmp_path, later)
    loader.load()
    assert told == [True, False, True]
    assert loader.expires == later.certificate.not_valid_after_utc


async def test_an_encrypted_key_asks_nobody(tmp_path, fresh):
    pair = serving(fresh)
    (tmp_path / "tls.crt").write_bytes(dump_bundle([pair.certificate]))
    (tmp_path / "tls.key").write_bytes(
        pair.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"secret"),
        )
    )
    loader = CertificateLoader(tmp_path)
    loader.load()
    assert not loader.loaded


async def test_files_that_go_change_nothing(tmp_path, fresh):
    told = []
    mount(tmp_path, serving(fresh))
    loader = CertificateLoader(tmp_path, told.append)
    loader.load()
    (tmp_path / "..data").unlink()
    loader.load()
    loader.load()
    assert loader.loaded
    assert told == [True, False]


async def test_files_that_change_while_they_are_loaded_are_loaded_at_the_next_look(
    tmp_path, fresh, monkeypatch
):
    mount(tmp_path, serving(fresh))
    later = serving(fresh)
    load = ssl.SSLContext.load_cert_chain

    def slow(*arguments, **options):
        load(*arguments, **options)
        monkeypatch.undo()
        mount(tmp_path, later)

    loader = CertificateLoader(tmp_path)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", slow)
    loader.load()
    assert not loader.loaded
    loader.load()
    assert loader.loaded
    assert loader.expires == later.certificate.not_valid_after_utc


@pytest.mark.looptime
async def test_run_looks_every_few_seconds(tmp_path, fresh, looptime):
    loader = CertificateLoader(tmp_path)
    task = asyncio.create_task(loader.run())
    await asyncio.sleep(1)
    assert not loader.loaded
    mount(tmp_path, serving(fresh))
    await asyncio.sleep(6)
    assert loader.loaded
    task.cancel()


def test_what_is_backdated_is_a_day():
    assert BACKDATE == DAYS
