"""Converts objects between JSON and the models."""

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from wazzup_operator.resources import account, channel
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.base import API_VERSION, JSON
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel

T = TypeVar("T", WazzupChannel, WazzupAccount)
Status = ChannelStatus | AccountStatus


class Unreadable(Exception):
    """An object does not match its CRD; the message says where, without values."""


@dataclass(frozen=True)
class Resource(Generic[T]):
    """One kind: its names and its codec."""

    kind: str
    plural: str
    model: type[T]
    status_model: type[Any]

    @cached_property
    def _objects(self) -> TypeAdapter[T]:
        return TypeAdapter(self.model)

    @cached_property
    def _statuses(self) -> TypeAdapter[Any]:
        return TypeAdapter(self.status_model)

    def decode(self, body: JSON, labels: Collection[str] = ()) -> T:
        """Return the object with these of its labels, without its status if that is malformed.

        Raises Unreadable.
        """
        try:
            return self._objects.validate_python(body, context=labels)
        except ValidationError as error:
            if any(part["loc"][:1] != ("status",) for part in error.errors()):
                raise Unreadable(_sentence(error)) from error
            return self._objects.validate_python({**body, "status": {}}, context=labels)

    def status_json(self, status: Status) -> JSON:
        """Return a status as JSON, without empty fields."""
        dumped: JSON = self._statuses.dump_python(
            status, mode="json", by_alias=True, exclude_none=True
        )
        return {key: value for key, value in dumped.items() if value != []}

    def reference(self, object_: T) -> JSON:
        """Return an ObjectReference to the object, for Events."""
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "namespace": object_.metadata.namespace,
            "name": object_.metadata.name,
            "uid": object_.metadata.uid,
        }


def _sentence(error: ValidationError) -> str:
    # Without the values: one may be a phone number.
    return "; ".join(
        f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
        for detail in error.errors(include_input=False, include_url=False)
    )


CHANNELS = Resource(channel.KIND, channel.PLURAL, WazzupChannel, ChannelStatus)
ACCOUNTS = Resource(account.KIND, account.PLURAL, WazzupAccount, AccountStatus)
