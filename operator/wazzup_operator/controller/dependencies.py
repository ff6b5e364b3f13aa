"""Dependencies of the account loops."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from wazzup_operator.controller.request_limit import RequestLimit
from wazzup_operator.controller.store import Store
from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.kube.secrets import SecretReader
from wazzup_operator.kube.slots import Slots
from wazzup_operator.kube.status import StatusWriter
from wazzup_operator.settings import ControllerSettings
from wazzup_operator.wazzup.client import WazzupClient

_PLANNING = 32
"""Accounts that are planned at once. Any number of accounts may be due at the same time, and their
plans take turns in one thread."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Settings, clients and state that all accounts share."""

    settings: ControllerSettings
    store: Store
    secrets: SecretReader
    wazzup: WazzupClient
    writer: StatusWriter
    events: EventRecorder
    clock: Callable[[], datetime]
    """Returns the time in UTC, in whole seconds."""

    requests: RequestLimit = field(default_factory=RequestLimit)
    planning: Slots = field(default_factory=lambda: Slots(_PLANNING))
