"""Times, names and pairs for tests of the webhook's certificates."""

import base64
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import verification

from wazzup_operator.certificates.issue import service_names

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
DAYS = timedelta(days=1)
MINUTE = timedelta(minutes=1)
VALIDITY = 90 * DAYS
NAMES = service_names("hook", "wz")


def trusted(certificate, authorities, now, name="hook.wz.svc"):
    """Verify with an independent, strict verifier (the CA/Browser Forum's profile)."""
    if not authorities:
        return False
    policy = verification.PolicyBuilder().store(verification.Store(authorities)).time(now)
    try:
        policy.build_server_verifier(x509.DNSName(name)).verify(certificate, [])
    except verification.VerificationError:
        return False
    return True


def with_invalid_version(pair):
    """Return the pair's certificate as PEM with version field 31; 2 (X.509 v3) is the maximum."""
    der = bytearray(pair.certificate.public_bytes(serialization.Encoding.DER))
    begin = bytes.fromhex("a003020102")
    assert der.count(begin) == 1
    der[der.index(begin) + 4] = 31
    body = base64.encodebytes(bytes(der))
    return b"-----BEGIN CERTIFICATE-----\n" + body + b"-----END CERTIFICATE-----\n"
