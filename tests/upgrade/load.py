"""500 objects that change all the time, in Wazzup and in Kubernetes, and reviews of new ones."""

import itertools
import random
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from tests.drills.drill import Drill, Site
from tests.expected_states import BY_NAME, meant
from tests.integration.harness.api import JSON, Api, ApiError, channel, eventually

ACCOUNTS, CHANNELS, TWINS = 5, 96, 4
SHOWN = ("active", "qridle", "disabled", "phoneUnavailable", "notEnoughMoney", "init")
FAULTS: tuple[JSON, ...] = (
    {"kind": "status", "code": 500, "times": 2},
    {"kind": "hang", "times": 1},
    {"kind": "malformed", "times": 1},
    {"kind": "slow", "delay": 3, "times": 1},
)
"""Faults with no listing or a right one: versions may judge a short listing differently."""

PATIENCE = 60.0
DUPLICATE = ("Unknown", "False", "DuplicatePhoneNumber")
IMPOSSIBLE, TAKEN, FREE = "+99912345678", "+79990000001", "+79990000002"


class Repeated(ABC):
    """Work that a thread repeats at an interval."""

    interval: float

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._error: Exception | None = None
        self.working = threading.Lock()
        """Held while it works; whoever holds it pauses it."""

    @abstractmethod
    def work(self) -> None:
        """Do it once."""

    @contextmanager
    def repeated(self) -> Iterator[None]:
        """Repeat the work until the block ends or it fails."""
        thread = threading.Thread(target=self._run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def raise_error(self) -> None:
        """Raise the error that ended the work, if any."""
        if self._error:
            raise self._error

    def _run(self) -> None:
        while not self._ended.wait(self.interval):
            with self.working:
                try:
                    self.work()
                except Exception as error:
                    self._error = error
                    return


class Load(Repeated):
    """The objects and their changes.

    The numbers of each account's first objects are also declared by a second object, the twin.
    """

    interval = 0.15

    def __init__(self, fleet: Drill) -> None:
        super().__init__()
        self._fleet, self._chance = fleet, random.Random(18)
        shown = [SHOWN[n % len(SHOWN)] for n in range(CHANNELS)]
        self._sites = [fleet.site(f"shop-{n}", shown) for n in range(ACCOUNTS)]
        self._shown = {(site, n): state for site in self._sites for n, state in enumerate(shown)}
        self._active = dict.fromkeys(self._shown, True)
        self._losers: set[str] = set()
        """Of two objects with one number, those that do not have it."""

        self.changes = 0

    def declare_twins(self) -> None:
        """Create the twins; every other one in about the same second as the object before it."""
        for site in self._sites:
            for number in range(TWINS):
                twin = site.body(number)
                twin["metadata"]["name"] = f"twin-{site.name}-{number}"
                if number % 2:
                    self._fleet.api.delete("wazzupchannel", f"{site.name}-{number}")
                    self._fleet.create_all([site.body(number), twin])
                else:
                    self._fleet.api.create(twin)

        def losers() -> set[str]:
            found = {name for name, each in self._fleet.states().items() if each == DUPLICATE}
            return found if len(found) == ACCOUNTS * TWINS else set()

        self._losers = eventually(losers, "one object of each number has it", PATIENCE)

    def work(self) -> None:
        """Change something, in Wazzup or in Kubernetes."""
        site = self._chance.choice(self._sites)
        match self._chance.randrange(60):
            case 0:
                site.fault(**self._chance.choice(FAULTS))
            case what if what < 30:
                number = self._chance.randrange(CHANNELS)
                self._shown[site, number] = self._chance.choice(SHOWN)
                site.show(number, self._shown[site, number])
            case what:
                self._change_object(site, self._chance.randrange(TWINS, CHANNELS), what)
        self.changes += 1

    def _change_object(self, site: Site, number: int, what: int) -> None:
        api, name = self._fleet.api, f"{site.name}-{number}"
        if what < 35:
            api.delete("wazzupchannel", name)
            api.create(site.body(number, active=self._active[site, number]))
        elif what < 40:
            labels = {"touched": str(time.monotonic_ns())}
            api.patch("wazzupchannel", name, {"metadata": {"labels": labels}})
        else:
            self._active[site, number] = not self._active[site, number]
            spec = {"active": self._active[site, number]}
            api.patch("wazzupchannel", name, {"spec": spec})

    def settle(self) -> None:
        """Wait until every status is right, without changes meanwhile."""
        with self.working:
            self._fleet.simulator.clear_faults()
            self._fleet.wait_states(self._expected(), PATIENCE)

    def _expected(self) -> dict[str, tuple[str | None, str, str]]:
        found: dict[str, tuple[str | None, str, str]] = dict.fromkeys(self._losers, DUPLICATE)
        for (site, number), shown in self._shown.items():
            expected = BY_NAME[meant(shown)]
            ready = expected.ready(active=self._active[site, number])
            name = f"{site.name}-{number}"
            found[f"twin-{name}" if name in self._losers else name] = (expected.state, *ready)
        return found


class Review(NamedTuple):
    """A review that ended wrong."""

    time: float
    number: str
    right: str
    outcome: str

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.time, UTC).strftime("%H:%M:%S.%f")[:-3]
        return f"{at}Z {self.number} must be {self.right}, and was {self.outcome}"


class Reviews(Repeated):
    """Asks for reviews of an impossible, a taken and a free number, in turns, in dry runs."""

    interval = 0.1

    def __init__(self, api: Api) -> None:
        super().__init__()
        self._api = api
        self._turns = itertools.cycle(
            [(IMPOSSIBLE, "denied"), (TAKEN, "denied"), (FREE, "admitted")]
        )
        api.create(channel("holder", TAKEN))
        self.count = 0
        self.wrong: list[Review] = []
        """Those that were lost or ended wrong."""

    def work(self) -> None:
        """Ask for one review."""
        number, right = next(self._turns)
        path, body = self._api.path("wazzupchannel"), channel("reviewed", number)
        try:
            self._api.request("POST", path, body, dryRun="All")
            outcome = "admitted"
        except ApiError as error:
            outcome = "denied" if "denied the request" in error.message else error.message
        self.count += 1
        if outcome != right:
            self.wrong.append(Review(time.time(), number, right, outcome))
