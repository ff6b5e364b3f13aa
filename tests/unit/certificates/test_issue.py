"""Issuing, checking, encoding and decoding certificates."""

import base64
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.certificates.pairs import (
    DAYS,
    MINUTE,
    NAMES,
    NOW,
    VALIDITY,
    trusted,
    with_invalid_version,
)
from wazzup_operator.certificates.content import Content, differences, read
from wazzup_operator.certificates.issue import (
    AUTHORITY_VALIDITY,
    Pair,
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


@pytest.fixture(scope="module")
def authority():
    return make_authority(NOW)


def test_a_serving_certificate_is_valid_for_the_service_s_names_only(authority):
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    for name in ("hook", "hook.wz", "hook.wz.svc", "hook.wz.svc.cluster.local"):
        assert trusted(pair.certificate, [authority.certificate], NOW, name)
    constraints = authority.certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.value.path_length == 0
    assert not trusted(pair.certificate, [authority.certificate], NOW, "hook.other.svc")
    assert not trusted(pair.certificate, [make_authority(NOW).certificate], NOW)


def test_each_certificate_may_be_used_for_its_purpose_only():
    """Strict verifiers demand that these extensions are critical (RFC 5280, 4.2.1)."""
    authority = make_authority(NOW)
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    for each, purposes in (
        (authority, {"key_cert_sign", "crl_sign"}),
        (pair, {"digital_signature"}),
    ):
        extensions = each.certificate.extensions
        usage = extensions.get_extension_for_class(x509.KeyUsage)
        names = ("digital_signature", "content_commitment", "key_encipherment", "key_agreement")
        names = (*names, "data_encipherment", "key_cert_sign", "crl_sign")
        assert {name for name in names if getattr(usage.value, name)} == purposes
        assert usage.critical
        assert extensions.get_extension_for_class(x509.BasicConstraints).critical


def test_certificates_are_backdated_by_a_day(authority):
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    assert pair.certificate.not_valid_before_utc == NOW - DAYS
    assert pair.certificate.not_valid_after_utc == NOW + VALIDITY
    assert authority.certificate.not_valid_after_utc == NOW + AUTHORITY_VALIDITY
    assert trusted(pair.certificate, [authority.certificate], NOW - DAYS)
    assert not trusted(pair.certificate, [authority.certificate], NOW - DAYS - MINUTE)


def test_a_serving_certificate_expires_no_later_than_its_ca(authority):
    late = NOW + AUTHORITY_VALIDITY - DAYS
    pair = make_serving(authority, NAMES, late, VALIDITY)
    assert pair.certificate.not_valid_after_utc == authority.certificate.not_valid_after_utc


@pytest.mark.parametrize("validity", [timedelta(seconds=30), DAYS, VALIDITY])
def test_renewal_is_due_after_two_thirds_of_the_validity(authority, validity):
    pair = make_serving(authority, NAMES, NOW, validity)
    assert renewal(pair.certificate) == NOW + validity * 2 / 3
    due = NOW + validity * 2 / 3
    assert serving_problem(pair, authority.certificate, NAMES, due - timedelta(seconds=1)) is None
    assert "two thirds" in serving_problem(pair, authority.certificate, NAMES, due)


def test_names_of_maximum_length_fit(authority):
    names = service_names("s" * 63, "n" * 63)
    assert trusted(
        make_serving(authority, names, NOW, VALIDITY).certificate,
        [authority.certificate],
        NOW,
        names[2],
    )


def test_the_problem_with_a_pair_is_named(authority):
    pair = make_serving(authority, NAMES, NOW, VALIDITY)
    other = make_authority(NOW).certificate
    at = NOW + MINUTE
    assert serving_problem(pair, authority.certificate, NAMES, at) is None
    assert serving_problem(pair, other, NAMES, at) == "is signed by another CA"
    assert serving_problem(pair, authority.certificate, ("x.wz",), at) == "is for another Service"
    assert serving_problem(pair, authority.certificate, NAMES, NOW - 2 * DAYS) == (
        "is not valid yet"
    )
    assert serving_problem(pair, authority.certificate, NAMES, at + VALIDITY) == "has expired"
    assert authority_problem(authority, at) is None
    assert authority_problem(pair, at) == "is not a CA"
    assert authority_problem(authority, NOW + AUTHORITY_VALIDITY * 0.7)


def test_repr_shows_no_key(authority):
    shown = repr(Content(authority, authority, (authority.certificate,), NOW))
    assert "PRIVATE" not in shown
    assert "key" not in repr(authority)


def test_what_is_not_a_pair_is_refused(authority):
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
        assert load_pair(bad_certificate, bad_key) is None


def test_an_encrypted_or_foreign_key_is_refused(authority):
    certificate = dump_bundle([authority.certificate])
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    assert load_pair(certificate, authority.key.private_bytes(*form, secret)) is None
    other = ec.generate_private_key(ec.SECP256R1())
    assert load_pair(certificate, Pair(authority.certificate, other).key_pem) is None


def test_a_damaged_bundle_yields_each_readable_certificate_once(authority):
    other = make_authority(NOW).certificate
    bundle = dump_bundle([authority.certificate, other])
    assert load_bundle(bundle + b"junk" + bundle) == (authority.certificate, other)
    assert load_bundle(bundle[300:]) == (other,)
    assert load_bundle(b"") == load_bundle(b"\xff\x00-----END CERTIFICATE-----") == ()


def test_an_invalid_version_counts_as_damage(authority):
    damaged = with_invalid_version(authority)
    assert load_pair(damaged, authority.key_pem) is None
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
