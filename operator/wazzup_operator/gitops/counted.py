"""What an export says at its end."""

from collections import Counter
from collections.abc import Iterator

from wazzup_operator.gitops.export import Export
from wazzup_operator.wazzup.survey import Survey


def summary(survey: Survey, done: Export, *, to_folder: bool) -> Iterator[str]:
    """Yield sentences that count. They name no channel, number or key."""
    count = done.active + done.off
    yield f"Channels in Wazzup: {survey.rows}. Declared: {count}, {done.off} of them off."
    for reason, lines in done.left_out.items():
        yield f"Left out: {len(lines)} ({reason[0].lower()}{reason[1:]})."
    states = Counter(each.upstream_state for each in survey.listing.channels.values())
    if states:
        yield f"States in Wazzup: {_counts(states)}."
    if survey.unknown_states or survey.unknown_fields:
        yield from _unknown(survey)
    else:
        yield "This version knows every state and field."
    if survey.listing.truncated:
        yield f"Names or states that were too long and are truncated: {survey.listing.truncated}."
    if to_folder:
        yield (
            f"Files: {len(done.new)} new, {len(done.changed)} changed, {done.unchanged} unchanged."
        )


def _unknown(survey: Survey) -> Iterator[str]:
    if survey.unknown_states:
        yield f"States that this version does not know: {_counts(survey.unknown_states)}."
    if survey.unknown_fields:
        fields = ", ".join(map(repr, survey.unknown_fields))
        yield f"Fields that this version does not know: {fields}."


def _counts(counts: dict[str, int]) -> str:
    most = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    return ", ".join(f"{state!r} {count}" for state, count in most[:20])
