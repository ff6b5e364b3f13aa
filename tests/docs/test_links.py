"""Every link in the documents leads somewhere."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, inline_code, name, prose

DOCS = ROOT / "docs"


def links(page: Path) -> list[str]:
    """Return the targets of the links within the repository."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(page))
    return [target for target in targets if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_index_links_every_page() -> None:
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in links(DOCS / "README.md")}
    assert linked >= set(DOCS.glob("*.md")) - {DOCS / "README.md"}


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_paths_exist(page: Path) -> None:
    parts = "|".join(each.name for each in ROOT.iterdir() if each.is_dir() and each.name[0] != ".")
    for code in inline_code(page):
        for path in re.findall(rf"(?:^|\s)((?:{parts})/[\w./*-]*)", code):
            if not path.startswith("build/"):
                assert list(ROOT.glob(path.rstrip("/"))), path
