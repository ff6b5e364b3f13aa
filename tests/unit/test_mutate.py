"""What `make mutate` reports."""

from pathlib import Path

import pytest

from dev.mutate import __main__ as mutate
from dev.mutate import workspace

NAMES = ["a", "b", "c"]


@pytest.fixture(autouse=True)
def unnoticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The mutants that no test notices; survivors.txt lists the change of a."""
    listed, names = tmp_path / "survivors.txt", ["a"]
    listed.write_text("# Equivalent.\n\nf: a => A\n")
    monkeypatch.setattr(mutate, "LISTED", listed)
    monkeypatch.setattr(workspace, "prepare", lambda: None)
    monkeypatch.setattr(workspace, "mutants", lambda: NAMES)
    monkeypatch.setattr(workspace, "survivors", lambda chosen: sorted({*names} & {*chosen}))
    monkeypatch.setattr(workspace, "change", lambda name: f"f: {name} => {name.upper()}")
    for variable in ("MUTANTS", "SEED"):
        monkeypatch.delenv(variable, raising=False)
    return names


def run() -> int | str | None:
    with pytest.raises(SystemExit) as exit_:
        mutate.main()
    return exit_.value.code


def test_the_listed_survivors_may_survive(capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "2 killed, 1 listed in survivors.txt, 0 new" in capsys.readouterr().out


def test_another_survivor_is_printed(
    unnoticed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    unnoticed.append("b")
    assert run() == 1
    assert "\nb\nf: b => B\n" in capsys.readouterr().out


def test_a_line_without_a_survivor_is_printed(
    unnoticed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    unnoticed.clear()
    assert run() == 1
    assert "No survivor matches this line of survivors.txt: remove it.\nf: a => A\n" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(("size", "code"), [("0", 0), ("2", 0), ("99", 1)])
def test_only_a_whole_run_judges_the_lines(
    unnoticed: list[str], monkeypatch: pytest.MonkeyPatch, size: str, code: int
) -> None:
    unnoticed.clear()
    monkeypatch.setenv("MUTANTS", size)
    assert run() == code
