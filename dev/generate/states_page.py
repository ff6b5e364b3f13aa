"""The states of a channel and who must act, from the table of states."""

from dev.generate.document import table
from wazzup_operator.domain.states import State

_IN_README = 8
"""Number of states in the README, from the top of the table."""


def readme_section() -> dict[str, str]:
    """Return the README's table."""
    header = ("state", "meaning", "who acts", "what to do")
    rows = [(state, state.traits.meaning, *_action(state)) for state in list(State)[:_IN_README]]
    return {"states": table(header, rows)}


def sections() -> dict[str, str]:
    """Return the table of all states, and those in which waiting cannot help."""
    header = ("state", "API state", "meaning", "carries messages", "who acts", "what to do")
    rows = [
        (
            state,
            ", ".join(state.traits.upstream) or "-",
            state.traits.meaning,
            state.traits.carries,
            *_action(state),
        )
        for state in State
    ]
    permanent = [f"- {state}" for state in State if state.traits.permanent]
    return {"states": table(header, rows), "permanent": "\n".join(permanent)}


def _action(state: State) -> tuple[str, str]:
    action = state.traits.action
    return (action.by, action.summary) if action else ("nobody", "nothing")
