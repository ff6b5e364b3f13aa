"""Phrases that make a native speaker stumble stay out of code and documents."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("*.py", "*.md", "*.yaml", "*.yml", "*.tpl", "*.txt", "Makefile", "Dockerfile", ".ci/run")

# All of them were written here before.
PHRASES = (
    "an operator of the operator",
    "anew",
    "as far as",
    "be it",
    "be the object of its name",
    "begin again",
    "beginning again",
    "begins again",
    "begun again",
    "by a surprise",
    "by surprise",
    "cannot be had",
    "cannot be learned in time",
    "for it to",
    "goes on",
    "had again",
    "has not turned for too long",
    "heard of no more",
    "in vain",
    "is taken for",
    "is told",
    "may be had",
    "no way to the api server",
    "of ours",
    "speaks for nobody",
    "speaks of",
    "such as it is",
    "tell of",
    "tells of",
    "that may still pass",
    "the least level",
    "told of",
    "warned of",
    "was seen to ask for",
    "what is the case",
    "what there is",
)
PATTERN = re.compile(rf"\b(?:{'|'.join(PHRASES)})\b".replace(" ", r"\s+"), re.IGNORECASE)
# With the comment sign or the quotes that continue a text on the next line.
LINE_BREAK = re.compile(r"""["']?\s*\n\s*(?:#\s|f?["'])?\s*""")


def tracked_files() -> list[Path]:
    command = ["git", "ls-files", "--", *FILES, ":!requirements"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in output.splitlines() if ROOT / name != Path(__file__)]


def phrases_in(text: str) -> list[str]:
    return PATTERN.findall(LINE_BREAK.sub(" ", text))


@pytest.mark.parametrize(
    "text",
    ["It goes on.", "Be it so", "# is\n    # told", '"made of "\n    f"ours"', "as\n  far as"],
)
def test_a_phrase_is_found_across_line_breaks(text):
    assert phrases_in(text)


@pytest.mark.parametrize("text", ["maybe its", "this told us", "of hours", "# goes\n\n# to"])
def test_other_words_are_not(text):
    assert not phrases_in(text)


def test_no_file_has_one_of_the_phrases():
    files = tracked_files()
    assert len(files) > 250
    found = {
        str(file.relative_to(ROOT)): phrases
        for file in files
        if (phrases := phrases_in(file.read_text()))
    }
    assert not found
