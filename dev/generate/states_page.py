"""README.md: a channel's states and who must act, from the table of states."""

from dev.generate.document import table
from wazzup_operator.domain.states import State

_HEADER = ("state", "API state", "meaning", "messages", "who", "what to do while `active: true`")


def sections() -> dict[str, str]:
    """Return the table of states."""
    return {"states": table(_HEADER, [_row(state) for state in State])}


def _row(state: State) -> tuple[str, ...]:
    row = state.row
    return (
        state,
        ", ".join(row.upstream) or "-",
        row.meaning,
        row.carries,
        row.action.by if row.action else "nobody",
        row.action.summary if row.action else "nothing",
    )
