"""Content of the Secret with the webhook's certificates."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509

from wazzup_operator.certificates.issue import Pair, dump_bundle, load_bundle, load_pair

_SERVING = ("tls.crt", "tls.key")
_AUTHORITY = ("ca.crt", "ca.key")
_FORMER, _FORMER_UNTIL = "former-ca.crt", "former-ca.until"


@dataclass(frozen=True, slots=True)
class Content:
    """The current CA, the serving pair, and former CAs that must stay trusted for a while.

    What is missing or unusable is None. During a rotation, a former CA has still signed the serving
    pair. The last pair signed by a former CA expires at `former_until`, which is stored
    only with former CAs.
    """

    authority: Pair | None = None
    serving: Pair | None = None
    former: tuple[x509.Certificate, ...] = ()
    former_until: datetime | None = None


def read(data: Mapping[str, object]) -> Content:
    """Decode a Secret's `data`. Damaged parts count as missing."""
    authority = _pair(data, _AUTHORITY)
    former = load_bundle(_bytes(data, _FORMER))
    if authority is None:
        # Its key is lost, but a pair that it signed may still be in use.
        lost = load_bundle(_bytes(data, _AUTHORITY[0]))
        former = (*(each for each in lost if each not in former), *former)
    return Content(
        authority=authority,
        serving=_pair(data, _SERVING),
        former=former,
        former_until=_time(_bytes(data, _FORMER_UNTIL)),
    )


def differences(content: Content, data: Mapping[str, object]) -> dict[str, str | None]:
    """Return the merge patch (RFC 7386) that gives a Secret's `data` this content."""
    wanted = _encode(content)
    # Other keys in the Secret belong to others and stay.
    removed: dict[str, str | None] = {
        key: None for key in (_FORMER, _FORMER_UNTIL) if key in data and key not in wanted
    }
    return removed | {key: value for key, value in wanted.items() if data.get(key) != value}


def _encode(content: Content) -> dict[str, str]:
    # Empty, so that the webhook's log says why there is no pair, instead of "no such file".
    parts = {_SERVING[0]: b"", _SERVING[1]: b""}
    for (certificate, key), pair in ((_SERVING, content.serving), (_AUTHORITY, content.authority)):
        if pair:
            parts |= {certificate: dump_bundle([pair.certificate]), key: pair.key_pem}
    if content.former:
        parts[_FORMER] = dump_bundle(content.former)
        if content.former_until:
            parts[_FORMER_UNTIL] = content.former_until.isoformat().encode()
    return {key: base64.b64encode(value).decode() for key, value in parts.items()}


def _pair(data: Mapping[str, object], keys: tuple[str, str]) -> Pair | None:
    return load_pair(*(_bytes(data, key) for key in keys))


def _bytes(data: Mapping[str, object], key: str) -> bytes:
    try:
        return base64.b64decode(str(data.get(key, "")))
    except ValueError:
        return b""


def _time(text: bytes) -> datetime | None:
    try:
        time = datetime.fromisoformat(text.decode())
    except (ValueError, UnicodeDecodeError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
