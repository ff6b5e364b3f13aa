"""Generated sections in hand-written documents."""

from collections.abc import Iterable, Mapping, Sequence


def filled(document: str, sections: Mapping[str, str]) -> str:
    """Return the document with each section's content replaced.

    `<!-- generated: NAME -->` and `<!-- end: NAME -->` delimit a section. Raises ValueError if the
    document lacks one.
    """
    for name, content in sections.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = document.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{document.splitlines()[0]!r} has no {begin} ... {end}.")
        document = f"{before}{begin}\n\n{content.strip()}\n\n{end}{after}"
    return document


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
