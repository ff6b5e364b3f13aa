"""The Event and the log line of a transition."""

import logging
from typing import TypeVar

from wazzup_operator.kube.events import EventRecorder
from wazzup_operator.reconcile.transitions import account_transition, channel_transition
from wazzup_operator.resources.account import AccountStatus, WazzupAccount
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel
from wazzup_operator.resources.codec import Resource, Status

log = logging.getLogger(__name__)

T = TypeVar("T", WazzupChannel, WazzupAccount)


def record_transition(
    events: EventRecorder, resource: Resource[T], before: T, status: Status
) -> None:
    """Record an Event and log a line if the written status is a transition."""
    if isinstance(before.status, ChannelStatus) and isinstance(status, ChannelStatus):
        transition = channel_transition(before.status, status)
    elif isinstance(before.status, AccountStatus) and isinstance(status, AccountStatus):
        transition = account_transition(before.status, status)
    else:
        transition = None
    if transition is None:
        return
    log.log(
        logging.WARNING if transition.type == "Warning" else logging.INFO,
        "%s %s: %s",
        resource.kind,
        before.metadata.key,
        transition.reason,
    )
    events.record(resource.reference(before), transition.type, transition.reason, transition.note)
