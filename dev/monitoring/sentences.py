"""What the table of states says of a state."""

from wazzup_operator.domain.states import TABLE, State


def sentence(state: State) -> str:
    """Return what is the case in a state, and what a person does."""
    row = TABLE[state]
    return f"{row.meaning} {row.action.summary}" if row.action else row.meaning
