"""Validates the JSON object of a control request, field by field."""

from collections.abc import Mapping

from wazzup_simulator.refusals import InvalidError


class Fields:
    """The fields of one request. Unknown ones are refused by `done`."""

    def __init__(self, values: Mapping[str, object]) -> None:
        self._left = dict(values)

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def value(self, name: str) -> object:
        """Return any JSON value; None if the field is missing."""
        return self._left.pop(name, None)

    def text(self, name: str) -> str | None:
        """Return a non-empty string, or None if the field is missing."""
        value = self.value(name)
        if value is None or (isinstance(value, str) and value):
            return value
        raise InvalidError(f"The field {name} must be a non-empty string.")

    def required_text(self, name: str) -> str:
        """Return a non-empty string. Raises InvalidError if the field is missing."""
        value = self.text(name)
        if value is None:
            raise InvalidError(f"The field {name} is missing.")
        return value

    def texts(self, name: str) -> list[str] | None:
        """Return a list of non-empty strings."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, list) and all(isinstance(item, str) and item for item in value):
            return value
        raise InvalidError(f"The field {name} must be a list of non-empty strings.")

    def flag(self, name: str) -> bool | None:
        """Return true or false."""
        value = self.value(name)
        if value is None or isinstance(value, bool):
            return value
        raise InvalidError(f"The field {name} must be true or false.")

    def number(self, name: str, low: float, high: float = float("inf")) -> float | None:
        """Return a number from `low` to `high`."""
        value = self.value(name)
        if value is None:
            return None
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high:
            return value
        raise InvalidError(f"The field {name} must be a number {_span(low, high)}.")

    def whole(self, name: str, low: int, high: float = float("inf")) -> int | None:
        """Return a whole number from `low` to `high`."""
        value = self.number(name, low, high)
        if value is None or isinstance(value, int):
            return value
        raise InvalidError(f"The field {name} must be a whole number.")

    def string_map(self, name: str) -> dict[str, str]:
        """Return an object whose values are strings."""
        value = self.value(name)
        if value is None:
            return {}
        if isinstance(value, dict) and all(isinstance(item, str) for item in value.values()):
            return value
        raise InvalidError(f"The field {name} must be an object whose values are strings.")

    def done(self) -> None:
        """Refuse the fields that were not read."""
        if self._left:
            raise InvalidError(f"Unknown field: {', '.join(sorted(self._left))}.")


def _span(low: float, high: float) -> str:
    return f"of at least {low}" if high == float("inf") else f"from {low} to {high}"
