"""A burst: new objects that all get their first status."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dev.bench.cluster import (
    JSON,
    TIMES,
    Cluster,
    Fleet,
    changed_channels,
    connected,
    expected_status,
    list_channels,
)
from dev.bench.peers import Controller, running, use_of
from dev.processes.process import StartError, log_tail
from wazzup_operator.kube.client import KubeClient


class Unfinished(StartError):
    """A peer did not write all statuses in time; the message says how many."""


@dataclass(frozen=True)
class Cost:
    """Wall and CPU time in seconds, peak memory in MiB; the operator's samples by function."""

    wall: float
    cpu: float
    peak: float
    profile: Mapping[str, int] = field(default_factory=dict)


def burst(cluster: Cluster, fleet: Fleet, peer: str) -> Cost:
    """Run a peer until all objects of a fleet, without statuses at first, have the right one."""
    cluster.plane.store(fleet.stored())
    return asyncio.run(_burst(cluster, fleet, peer))


async def _burst(cluster: Cluster, fleet: Fleet, peer: str) -> Cost:
    async with connected() as client:
        changes = changed_channels(client)
        await anext(changes)
        written: set[str] = set()
        watching = asyncio.create_task(_until_written(changes, fleet.objects, written))
        started = time.monotonic()
        with running(cluster, peer) as process:
            while not (await asyncio.wait({watching}, timeout=1.0))[0]:
                if failure := process.failure():
                    raise StartError(f"{failure}:\n{log_tail(process.log())}")
                if (passed := time.monotonic() - started) > 120 + fleet.objects / 50:
                    raise Unfinished(f"{len(written):,} statuses were written in {passed:.0f} s")
            wall, use = time.monotonic() - started, use_of(process)
            profile = process.take_profile() if isinstance(process, Controller) else {}
        watching.result()
        await _check(client, peer)
    return Cost(wall, use.cpu, use.peak, profile)


async def _until_written(
    changes: AsyncIterator[JSON | None], count: int, written: set[str]
) -> None:
    async for channel in changes:
        if channel and "state" in channel["status"]:
            written.add(channel["metadata"]["uid"])
            if len(written) == count:
                return


async def _check(client: KubeClient, peer: str) -> None:
    """Fail unless all objects have the expected status."""
    for item in (await list_channels(client))[0]:
        expected = expected_status(int(item["spec"]["phoneNumber"]))
        if (status := _without_times(item["status"])) != expected:
            raise StartError(f"the {peer} wrote another status: {status}, not {expected}")


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_times(each) for name, each in value.items() if name not in TIMES}
    if isinstance(value, list):
        return [_without_times(each) for each in value]
    return value
