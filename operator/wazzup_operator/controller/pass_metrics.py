"""Metrics of passes and of the statuses that they write."""

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Literal, get_args

from wazzup_operator.controller.clock import loop_time
from wazzup_operator.controller.memory import AccountMemory
from wazzup_operator.observability import metrics
from wazzup_operator.resources.channel import ChannelStatus, WazzupChannel

CONTROLLER = "wazzupaccount"
"""The controller's name in the metrics that controller-runtime defines."""

Result = Literal["success", "requeue_after", "error"]
"""How a pass ended, in controller-runtime's words."""


def start_at_zero() -> None:
    """Export each series from the start: rate() misses the first failure otherwise."""
    metrics.reconcile_errors.labels(CONTROLLER)
    for result in get_args(Result):
        metrics.reconciles.labels(CONTROLLER, result)


async def measure(run: Callable[[], Awaitable[Result]]) -> None:
    """Run a pass; count it and time it."""
    started = loop_time()
    with metrics.active_workers.labels(CONTROLLER).track_inprogress():
        result = await run()
    metrics.reconciles.labels(CONTROLLER, result).inc()
    if result == "error":
        metrics.reconcile_errors.labels(CONTROLLER).inc()
    metrics.reconcile_time.labels(CONTROLLER).observe(loop_time() - started)


def observe_latency(
    before: WazzupChannel, status: ChannelStatus, memory: AccountMemory, now: datetime
) -> None:
    """Observe how long a channel's new state took to reach its object's status."""
    if before.status.state == status.state:
        return
    age_of_change = memory.take_age_of_change(status.channel_id, loop_time())
    if before.status.state is None:
        age = now - before.metadata.creation_timestamp
        metrics.first_status.observe(max(0.0, age.total_seconds()))
    elif age_of_change is not None:
        metrics.change_to_status.observe(age_of_change)
