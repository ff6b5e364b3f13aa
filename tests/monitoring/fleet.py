"""The fleet dashboard compared with the API server."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime

from tests.expected_states import BY_NAME
from tests.integration.harness.api import JSON, Api, eventually
from tests.monitoring.dashboards import query
from tests.monitoring.prometheus import Prometheus


@dataclass
class Fleet:
    """Values of the fleet dashboard for a namespace, and the same from the API server."""

    prometheus: Prometheus
    api: Api

    def ask(self, title: str, ref: str = "A", account: str = ".*") -> list[tuple[JSON, float]]:
        """Return the series of a panel."""
        return self.prometheus.ask(self.expression(title, ref, account))

    def expression(self, title: str, ref: str = "A", account: str = ".*") -> str:
        """Return a query of a panel, for the namespace."""
        return query(title, ref, self.api.namespace, account)

    def number(self, title: str, ref: str = "A") -> float | None:
        """Return the single value of a panel, or None."""
        found = self.ask(title, ref)
        return found[0][1] if len(found) == 1 else None

    def by(self, title: str, *labels: str, **more: str) -> dict[tuple[str, ...], float]:
        """Return a panel's values by these labels."""
        return {
            tuple(found.get(label, "") for label in labels): value
            for found, value in self.ask(title, **more)
        }

    def shown(self) -> JSON:
        """Return what the dashboard shows."""
        return {
            "declared on": self.number("Declared on"),
            "active": self.number("Active"),
            "on, not active": self.number("On, but not Active"),
            "unknown": self.number("Unknown"),
            "declared off": self.number("Declared off"),
            "still on": self.number("Off, but still on"),
            "on": self.by("Declared on, by state", "state"),
            "off": self.by("Declared off, by state", "state"),
            "each": self.by("By account and state", "account", "state", "active"),
            "second": self.by("By account and state", "state", "active", account="second"),
            "not ready": self.by("Not Ready", "name", "account", "state", "active", "by", "todo"),
            "waiting": self.by("Waiting, by who must act", "by"),
            "up": self.by("Accounts", "account"),
            "unmanaged": self.by("Accounts", "account", ref="D"),
            "failing": {key for key, n in self.by("Accounts", "account", ref="C").items() if n},
            "without series": self.number("Without their own series"),
        }

    def listed(self) -> JSON:
        """Return what it should show, from the API server."""
        objects, accounts = self.api.list("wazzupchannel"), self.api.list("wazzupaccount")
        on, off = (
            [each for each in objects if each["spec"]["active"] is is_on] for is_on in (True, False)
        )
        each = dict(Counter((_account(o), _state(o), _active(o)) for o in objects))
        passing = {name for name, each in BY_NAME.items() if each.carries in ("yes", "maybe")}
        is_down = {_name(each): _ready(each) == "False" for each in accounts}
        return {
            "declared on": len(on),
            "active": sum(_state(o) == "Active" for o in on),
            "on, not active": sum(_state(o) not in ("Active", "Unknown") for o in on),
            "unknown": sum(_state(o) == "Unknown" for o in objects),
            "declared off": len(off),
            "still on": sum(_state(o) in passing for o in off),
            "on": dict(Counter((_state(o),) for o in on)),
            "off": dict(Counter((_state(o),) for o in off)),
            "each": each,
            "second": {key[1:]: n for key, n in each.items() if key[0] == "second"},
            "not ready": {
                (_name(o), _account(o), _state(o), _active(o), _by(o), _reason(o)): (
                    datetime.fromisoformat(o["status"]["stateSince"]).timestamp() * 1000
                )
                for o in objects
                if _ready(o) == "False"
            },
            "waiting": dict(Counter((_by(o),) for o in objects if _by(o))),
            "up": {
                (_name(a),): float(_ready(a) == "True")
                for a in accounts
                if _ready(a) in ("True", "False")
            },
            "unmanaged": {
                (_name(a),): len(a["status"]["unmanaged"])
                for a in accounts
                if a["status"].get("unmanaged")
            },
            "failing": {(name,) for name, down in is_down.items() if down},
            "without series": 0,
        }

    def agree(self, what: str) -> None:
        """Wait until the API server does not change and the dashboard shows the same."""

        def same() -> bool:
            listed = self.listed()
            self.shows = self.shown()
            self.stored = self.listed()
            return listed == self.stored == self.shows

        try:
            eventually(same, what, 30)
        except AssertionError as error:
            differs = [key for key in self.stored if self.stored[key] != self.shows[key]]
            wrong = [f"{key}: {self.shows[key]}, not {self.stored[key]}" for key in differs]
            raise AssertionError("\n".join([str(error), *wrong])) from error


def _name(body: JSON) -> str:
    return str(body["metadata"]["name"])


def _account(body: JSON) -> str:
    return str(body["spec"]["accountRef"]["name"])


def _state(body: JSON) -> str:
    return str(body["status"].get("state") or "Unknown")


def _active(body: JSON) -> str:
    return str(body["spec"]["active"]).lower()


def _by(body: JSON) -> str:
    return str(body["status"].get("action", {}).get("by", ""))


def _reason(body: JSON) -> str:
    return str(_condition(body)["reason"])


def _ready(body: JSON) -> str | None:
    return _condition(body).get("status")


def _condition(body: JSON) -> JSON:
    found = [each for each in body["status"].get("conditions", []) if each["type"] == "Ready"]
    return found[0] if found else {}
