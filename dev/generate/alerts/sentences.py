"""What the table of states says of a state."""

from wazzup_operator.domain.states import TABLE, State

_TOO_LONG = "It should have passed by now: write to Wazzup's support with the channel id."


def sentence(state: State) -> str:
    """Return what is the case in a state that has lasted too long, and what a person does."""
    row = TABLE[state]
    return f"{row.meaning} {row.action.summary if row.action else _TOO_LONG}"
