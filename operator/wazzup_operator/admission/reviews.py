"""Decodes the fields of an AdmissionReview that the rules need, and skips the rest.

An object may carry megabytes, of owner references for example. As Python objects, these would take
fifty times their size.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType, ValidationError, field
from msgspec.json import Decoder

from wazzup_operator.admission.requests import Buffer
from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import JSON, REPLACES

KIND = "AdmissionReview"
API_VERSION = "admission.k8s.io/v1"

OBJECTS = {"CREATE": {"object"}, "UPDATE": {"object", "oldObject"}, "DELETE": {"oldObject"}}
"""The objects in a review, by operation."""

_HEAD = 4096
_UID = re.compile(rb'"request"\s*:\s*\{\s*"uid"\s*:\s*"([\w.:-]{1,128})"')


_MAX_TEXT = 1024
"""Characters; all that the rules need are shorter. One emoji quadruples the memory of a string."""

Text = Annotated[str, Meta(max_length=_MAX_TEXT)]


class Resource(Struct):
    """The resource of the reviewed object."""

    group: Text = ""
    version: Text = ""
    resource: Text = ""

    def __str__(self) -> str:
        """Return kubectl's notation: wazzupchannels.v1.wazzup.dev, pods.v1."""
        return ".".join(filter(None, (self.resource, self.version, self.group)))


class Request(Struct):
    """A request without its objects, which may be of any kind."""

    uid: Text
    resource: Resource
    operation: Text | None = None


_NOTHING = Raw(b"{}")


class _Annotations(Struct):
    replaces: Text | UnsetType | None = field(name=REPLACES, default=UNSET)


class _Metadata(Struct, rename="camel"):
    """Without the uid: kopf keeps every uid of an UPDATE in memory forever."""

    name: Text
    namespace: Text
    annotations: Raw = _NOTHING
    deletion_timestamp: Text | None = None


class _Object(Struct):
    metadata: _Metadata
    spec: Raw
    status: Raw = _NOTHING


class _Objects(Request, rename="camel"):
    object: _Object | None = None
    old_object: _Object | None = None


class _SecretKeyRef(Struct):
    name: Text | UnsetType = UNSET
    key: Text | UnsetType = UNSET


class _AccountSpec(Struct, rename="camel"):
    api_key_secret_ref: _SecretKeyRef | UnsetType = UNSET
    poll_interval: Text | UnsetType = UNSET


class _AccountRef(Struct):
    name: Text | UnsetType = UNSET


class _ChannelSpec(Struct, rename="camel"):
    phone_number: Text | UnsetType = UNSET
    active: bool | UnsetType = UNSET
    account_ref: _AccountRef | UnsetType = UNSET
    transport: Text | UnsetType = UNSET
    display_name: Text | UnsetType | None = UNSET
    channel_id: Text | UnsetType | None = field(name="channelID", default=UNSET)


class _Status(Struct):
    state: Text | UnsetType | None = UNSET
    account: Text | UnsetType | None = UNSET


R = TypeVar("R", bound=Request)


class _Envelope(Struct, Generic[R], rename="camel"):
    kind: Text
    api_version: Text
    request: R


_BARE = Decoder(_Envelope[Request])
_FULL = Decoder(_Envelope[_Objects])
_SPECS: dict[str, Decoder[Any]] = {
    channel.PLURAL: Decoder(_ChannelSpec),
    account.PLURAL: Decoder(_AccountSpec),
}
_STATUS = Decoder(_Status)
_ANNOTATIONS = Decoder(_Annotations)


class Invalid(Exception):
    """The body is not an AdmissionReview; says why, in a sentence."""


@dataclass(frozen=True, slots=True)
class Review:
    """An AdmissionReview; its objects may be missing or of another kind."""

    api_version: Text
    request: Request

    def problem(self) -> str | None:
        """Return which part of the request is missing or invalid."""
        request = self.request
        if not isinstance(request, _Objects):
            return "The request's object or oldObject is not a Kubernetes object."
        if request.operation is None:
            return "The request's operation is missing."
        present = {"object": request.object, "oldObject": request.old_object}
        for key in sorted(OBJECTS[request.operation]):
            if present[key] is None:
                return f"The request's {key} is missing."
        return None

    def for_kopf(self) -> Any:
        """Return the fields that kopf and the handlers need, as JSON."""
        request = self.request
        assert isinstance(request, _Objects)
        spec = _SPECS[request.resource.resource]
        return {
            "apiVersion": self.api_version,
            "kind": KIND,
            "request": {
                "uid": request.uid,
                "resource": msgspec.to_builtins(request.resource),
                "operation": request.operation,
                "userInfo": {},  # kopf requires it
                "object": request.object and _json(request.object, spec),
                "oldObject": request.old_object and _json(request.old_object, spec),
            },
        }


def read(data: Buffer) -> Review:
    """Decode a review. Raises Invalid, or RecursionError if it is nested too deeply."""
    try:
        envelope = _decoded(data)
    except ValidationError:
        raise Invalid("This is not an AdmissionReview with a request.") from None
    except msgspec.DecodeError:
        raise Invalid("This is not an AdmissionReview.") from None
    if envelope.kind != KIND or not envelope.api_version.startswith("admission.k8s.io/"):
        raise Invalid("This is not an AdmissionReview of admission.k8s.io.")
    return Review(envelope.api_version, envelope.request)


def uid_in(data: Buffer) -> str | None:
    """Return the request's uid from the beginning of a review that cannot be decoded.

    The API server writes the uid before everything else in the request.
    """
    found = _UID.search(data, 0, _HEAD)
    return found[1].decode() if found else None


def _decoded(data: Buffer) -> _Envelope[Request] | _Envelope[_Objects]:
    try:
        return _FULL.decode(data)
    except ValidationError:
        return _BARE.decode(data)


def _json(body: _Object, spec: Decoder[Any]) -> JSON:
    metadata = body.metadata
    return {
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "annotations": _fields(_ANNOTATIONS, metadata.annotations),
            "deletionTimestamp": metadata.deletion_timestamp,
        },
        "spec": _fields(spec, body.spec),
        "status": _fields(_STATUS, body.status),
    }


def _fields(decoder: Decoder[Any], raw: Raw) -> Any:
    """Return the known fields; none if they do not match the schema, which refuses them.

    A skipped text is checked for valid UTF-8 only here; the API server sends no other.
    """
    try:
        return msgspec.to_builtins(decoder.decode(raw))
    except msgspec.DecodeError:  # also a ValidationError
        return {}
