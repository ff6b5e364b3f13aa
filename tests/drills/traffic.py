"""Many accounts and objects that change all the time, in Wazzup and in Kubernetes."""

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from tests.drills.drill import Drill
from tests.drills.leaders import States
from tests.expected_states import BY_NAME, meant
from tests.integration.harness.api import ApiError
from wazzup_simulator.client import SimulatorError

CHANNELS = 200
"""Of each account."""

INTERVAL = 0.2
"""Seconds between two changes in Wazzup, and between two in Kubernetes."""

POLL_INTERVAL = "15s"
SHOWN = ("active", "qridle", "disabled", "phoneUnavailable", "notEnoughMoney", "init")
UNREACHABLE = (OSError, http.client.HTTPException)


class Traffic:
    """The accounts, and the threads that change their channels and objects."""

    def __init__(self, drill: Drill, accounts: int, seed: int) -> None:
        self._drill, self._seed = drill, seed
        states = [SHOWN[number % len(SHOWN)] for number in range(CHANNELS)]
        self.sites = [
            drill.site(f"account-{n}", states, pollInterval=POLL_INTERVAL) for n in range(accounts)
        ]
        self.shown = {(site.name, n): states[n] for site in self.sites for n in range(CHANNELS)}
        self.active = dict.fromkeys(self.shown, True)
        self.done = Counter[str]()
        self._ended = threading.Event()
        tasks = {"wazzup": self._change_wazzup, "kubernetes": self._change_kubernetes}
        self._threads = [
            threading.Thread(target=self._repeat, args=each, name=each[0], daemon=True)
            for each in tasks.items()
        ]

    @property
    def size(self) -> int:
        return len(self.shown)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _repeat(self, what: str, work: Callable[[random.Random], None]) -> None:
        chance = random.Random(f"{self._seed}-{what}")
        due = time.monotonic()
        while not self._ended.wait(max(0.0, due - time.monotonic())):
            due = max(due + INTERVAL, time.monotonic() - 1)  # catch up on no more than a second
            try:
                work(chance)
                self.done[what] += 1
            except (ApiError, SimulatorError, *UNREACHABLE):
                self.done[f"failed in {what}"] += 1

    def _change_wazzup(self, chance: random.Random) -> None:
        site, number = chance.choice(self.sites), chance.randrange(CHANNELS)
        state = chance.choice(SHOWN)
        site.show(number, state)
        self.shown[site.name, number] = state

    def _change_kubernetes(self, chance: random.Random) -> None:
        """Change, recreate or touch an object; create it if an earlier change only deleted it."""
        site, number = chance.choice(self.sites), chance.randrange(CHANNELS)
        name, which = f"{site.name}-{number}", chance.randrange(10)
        body: dict[str, object] = {"metadata": {"labels": {"touched": str(time.monotonic_ns())}}}
        if which < 8:
            body = {"spec": {"active": chance.random() < 0.5}}
        try:
            if which == 8:
                self._drill.api.delete("wazzupchannel", name)
            else:
                self._drill.api.patch("wazzupchannel", name, body)
                return
        except ApiError as error:
            if error.status != 404:
                raise
        self._drill.api.create(site.body(number, active=chance.random() < 0.5))

    def adopt(self) -> None:
        """Create the objects that are missing; learn what the others declare and Wazzup shows.

        A change that failed may have taken effect.
        """
        found = {each["metadata"]["name"]: each for each in self._drill.api.list("wazzupchannel")}
        for site in self.sites:
            rows = {each.id: each.row for each in self._drill.simulator.channels(site.id)}
            for number in range(CHANNELS):
                self.shown[site.name, number] = rows[site.channel(number).id]["state"]
                body = found.get(f"{site.name}-{number}")
                if body is None:
                    body = self._drill.api.create(site.body(number))
                self.active[site.name, number] = body["spec"].get("active", True)

    def expected(self) -> States:
        """Return the expected `Drill.states`."""
        found: States = {}
        for (site, number), shown in self.shown.items():
            expected = BY_NAME[meant(shown)]
            ready = expected.ready(active=self.active[site, number])
            found[f"{site}-{number}"] = (expected.state, *ready)
        return found
