"""What both kinds share: names, JSON settings, metadata, conditions."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)
from pydantic.alias_generators import to_camel

GROUP = "wazzup.dev"
VERSION = "v1"
API_VERSION = f"{GROUP}/{VERSION}"

PAUSED = f"{GROUP}/paused"
REQUESTED_AT = f"{GROUP}/requested-at"
REPLACES = f"{GROUP}/replaces"

_LONGEST_ANNOTATION = 256
"""Characters of an annotation that are kept; no name is as long."""

READY = "Ready"
SYNCED = "Synced"
RECONCILING = "Reconciling"
STALLED = "Stalled"

JSON = dict[str, Any]

MODEL = ConfigDict(alias_generator=to_camel, validate_by_name=True, validate_by_alias=True)


@lru_cache(maxsize=1024)
def _to_second(value: datetime) -> str:
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=2048)
def _shared(word: str) -> str:
    """Return the equal string that came first; sys.intern would keep all of them on Python 3.12."""
    return word


Word = Annotated[str, AfterValidator(_shared)]
"""A string that thousands of objects share, kept in memory once."""

_LONGEST_SHARED = 40
"""Characters of a time that is kept to be shared; RFC 3339 allows any number of digits in it."""

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


def _in_range(value: datetime) -> datetime:
    """Clamp a time that somebody else wrote, so that adding a duration cannot overflow.

    In UTC, so that it has no time zone of its own.
    """
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return min(max(aware, _EARLIEST), _LATEST).astimezone(UTC)


@lru_cache(maxsize=2048)
def _parse(text: str) -> datetime:
    """Return the same time for the same text: one is repeated in an object, and in many."""
    return _in_range(datetime.fromisoformat(text))


def _shared_time(value: Any, validate: ValidatorFunctionWrapHandler) -> datetime:
    if isinstance(value, str) and len(value) <= _LONGEST_SHARED:
        try:
            return _parse(value)
        except ValueError:  # pydantic can parse it, or explain what is wrong with it
            pass
    return _in_range(validate(value))


Timestamp = Annotated[
    datetime,
    WrapValidator(_shared_time),
    PlainSerializer(_to_second, return_type=str, when_used="json"),
]
"""A time, written like Kubernetes' metav1.Time: RFC 3339, whole seconds."""


class NamespacedName(NamedTuple):
    """The namespace and name of an object."""

    namespace: str
    name: str

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> "NamespacedName":
        """Return the name from the JSON of an object's metadata."""
        return cls(metadata["namespace"], metadata["name"])

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


def _used_annotations(annotations: Any) -> Any:
    """Return those that the operator reads. Others can have 256 KiB, for each of many objects."""
    if not isinstance(annotations, dict):
        return {}
    used = {key: annotations.get(key) for key in (PAUSED, REQUESTED_AT, REPLACES)}
    return {
        key: value[:_LONGEST_ANNOTATION] for key, value in used.items() if isinstance(value, str)
    }


def _wanted_labels(labels: Any, info: ValidationInfo) -> Any:
    """Return the labels that the caller wants. An object can have any number of others."""
    if isinstance(labels, tuple) or not isinstance(labels, dict):
        return labels or ()
    found = ((key, labels.get(key)) for key in info.context or ())
    return tuple((key, value) for key, value in found if isinstance(value, str))


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectMeta:
    """The metadata that the operator uses, and no more: the Store holds thousands of objects."""

    name: str
    namespace: Word
    uid: str
    resource_version: str
    generation: int
    creation_timestamp: Timestamp
    deletion_timestamp: Timestamp | None = None
    annotations: Annotated[dict[str, str], BeforeValidator(_used_annotations)] = field(
        default_factory=dict
    )
    labels: Annotated[tuple[tuple[Word, Word], ...], BeforeValidator(_wanted_labels)] = ()
    """Those of --metric-labels."""

    @property
    def key(self) -> NamespacedName:
        """The object's namespace and name."""
        return NamespacedName(self.namespace, self.name)

    @property
    def deleting(self) -> bool:
        """Whether the object is deleted but kept by a finalizer."""
        return self.deletion_timestamp is not None

    @property
    def paused(self) -> bool:
        """Whether the object is annotated `wazzup.dev/paused: "true"`."""
        return self.annotations.get(PAUSED) == "true"


@with_config(MODEL)
@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One aspect of an object's current state (KEP-1623)."""

    type: Annotated[
        Word,
        Field(max_length=316, description="Ready, Synced, Reconciling or Stalled."),
    ]
    status: Annotated[
        Literal["True", "False", "Unknown"], Field(description="True, False or Unknown.")
    ]
    observed_generation: Annotated[
        int | None,
        Field(description="The metadata.generation that this condition is about."),
    ] = None
    last_transition_time: Annotated[
        Timestamp, Field(description="When the status of this condition last changed.")
    ]
    reason: Annotated[
        Word, Field(max_length=1024, description="The cause in one word, for programs.")
    ]
    message: Annotated[
        Word,
        Field(
            max_length=32768,
            description="What is wrong and what a person must do.",
        ),
    ]


def find(conditions: Iterable[Condition], type_: str) -> Condition | None:
    """Return the condition of that type, or None."""
    for condition in conditions:
        if condition.type == type_:
            return condition
    return None


ObservedGeneration = Annotated[
    int,
    Field(
        description=(
            "The metadata.generation that this status is about; -1 until the operator has processed"
            " the object."
        )
    ),
]

ConditionList = Annotated[
    tuple[Condition, ...],
    Field(
        description=(
            "Ready and, for channels, Synced are always present; Reconciling and Stalled only while"
            " True, as kstatus expects."
        ),
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
    ),
]
