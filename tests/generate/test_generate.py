"""`make generate` changes nothing."""

import pytest

from dev.generate.document import filled
from dev.generate.files import ROOT, files

FILES = dict(files())


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_generate_changes_nothing(path):
    assert path.read_text() == FILES[path], "run make generate"


def test_a_document_without_the_section_is_refused_by_its_title():
    with pytest.raises(ValueError, match=r"'# Alerts' has no <!-- generated: rules -->"):
        filled("# Alerts\n\nText.\n", {"rules": "| a |"})
