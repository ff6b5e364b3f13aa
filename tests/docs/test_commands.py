"""Commands, flags and values in the documents exist."""

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import click
import pytest
import yaml

from dev.controlplane.binaries import helm
from tests.docs.pages import CHART, PAGES, ROOT, blocks, commands, inline_code, name, table
from wazzup_operator.cli import cli
from wazzup_simulator.act import ON_CHANNEL, act
from wazzup_simulator.actions import ACCOUNT_ACTIONS

MAKEFILE = (ROOT / "Makefile").read_text()
INSTALLING = {
    page: [line for line in commands(page) if re.match("helm (install|upgrade) ", line)]
    for page in PAGES
}
OTHER_TOOLS = {
    "--build-arg BASE=": "docker",
    "--build-arg BUILDPLATFORM=": "podman",
    "--disable-agent": "k3s",
    "--dry-run=server": "kubectl",
    "--egress-selector-mode": "k3s",
    "--force-conflicts": "helm",
    "--reset-then-reuse-values": "helm",
    "--server-side": "kubectl",
    "--set": "helm",
    "--set-string": "helm",
    "--take-ownership": "helm",
}


@pytest.fixture(scope="module")
def render(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Render the chart as a documented command would; return the manifests."""
    home = str(tmp_path_factory.mktemp("helm"))
    environment = {**os.environ, "HOME": home, "HELM_CACHE_HOME": home, "HELM_CONFIG_HOME": home}

    def render(command: str) -> str:
        words = [word for word in shlex.split(command)[2:] if word != "--reset-then-reuse-values"]
        done = subprocess.run(
            [helm(), "template", *words], cwd=ROOT, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return render


def flags(command: click.Command) -> set[str]:
    """Return the flags of a command and of its subcommands."""
    found = {flag for each in command.params for flag in [*each.opts, *each.secondary_opts]}
    for subcommand in getattr(command, "commands", {}).values():
        found |= flags(subcommand)
    return found | {"--help"}


@pytest.mark.parametrize("page", [page for page in PAGES if INSTALLING[page]], ids=name)
def test_helm_commands_render_with_an_image_that_is_built(
    page: Path, render: Callable[[str], str]
) -> None:
    built = {
        image
        for each in PAGES
        for line in commands(each)
        for image in re.findall(r"docker build --tag (\S+)", line)
    }
    for command in INSTALLING[page]:
        manifests = render(command)
        if command.startswith("helm install"):
            assert set(re.findall(r'image: "(.+)"', manifests)) <= built


def sets_values(text: str) -> bool:
    known = yaml.safe_load((CHART / "values.yaml").read_text()).keys()
    (body, *others) = yaml.safe_load_all(text)
    return isinstance(body, dict) and body.keys() <= known and not others


OF_VALUES = [text for page in PAGES for text in blocks(page, "yaml") if sets_values(text)]


@pytest.mark.parametrize("text", OF_VALUES)
def test_values_in_the_documents_are_accepted(
    text: str, render: Callable[[str], str], tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(text)
    assert render(f"helm template wazzup-operator {CHART} --values={file}")


def test_values_in_the_documents_are_found() -> None:
    assert len(OF_VALUES) >= 3


def test_pages_that_install_are_found() -> None:
    assert {name(page) for page in PAGES if INSTALLING[page]} == {
        "README.md",
        "charts/wazzup-operator/README.md",
        "docs/install.md",
        "examples/simulator/README.md",
    }


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_make_targets_and_variables_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    for line in [*commands(page), *inline_code(page)]:
        if words := re.match(r"(?:KEEP=1 )?make ((?:[a-z-]+|[A-Z_]+=\S*)( |$))+", line):
            for word in words[0].split():
                variable, is_variable, _ = word.partition("=")
                if is_variable:
                    assert variable == "KEEP" or f"{variable} ?=" in MAKEFILE, line
                else:
                    assert word == "make" or word in targets, line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_applied_exist(page: Path) -> None:
    for line in commands(page):
        if not re.search(r"\bkubectl (apply|delete)\b", line):
            continue
        for path in re.findall(r"\s(?:-f|--filename)[ =](\S+)", line):
            assert path == "-" or (ROOT / path).exists(), line


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_flags_exist(page: Path) -> None:
    known = flags(cli) | flags(act)
    for code in inline_code(page):
        if code.startswith("--") and code not in OTHER_TOOLS:
            for flag in re.findall(r"--[a-z][a-z-]+", code):
                assert flag in known or flag in OTHER_TOOLS, flag
    for line in commands(page):
        if words := re.match(r"wazzup-operator [^|]+", line):
            _, command, *rest = shlex.split(words[0])
            given = {word.partition("=")[0] for word in rest if word.startswith("--")}
            assert given <= flags(cli.commands[command]), line


def test_actions_of_the_simulator_exist() -> None:
    page = ROOT / "examples" / "simulator" / "README.md"
    for line in commands(page):
        if line.startswith(("act ", "wazzup-simulator act ")):
            action = shlex.split(line.partition("act ")[2])[0]
            assert action in {*ON_CHANNEL, *ACCOUNT_ACTIONS}, line


def test_build_arguments_exist() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    arguments = {
        argument
        for page in PAGES
        for line in [*commands(page), *inline_code(page)]
        for argument in re.findall(r"--build-arg (\w+)=", line)
    }
    assert arguments == {"BASE", "WHEELHOUSE", "BUILDPLATFORM"}
    for argument in arguments:
        assert f"ARG {argument}=" in dockerfile or f"${{{argument}}}" in dockerfile


@pytest.mark.parametrize("page", [ROOT / "README.md", ROOT / "docs" / "install.md"], ids=name)
def test_sed_sets_the_image_of_the_manifest(page: Path) -> None:
    (line,) = [line for line in commands(page) if line.startswith("sed -i ")]
    _, _, script, path = shlex.split(line)
    done = subprocess.run(
        ["sed", script, path], cwd=ROOT, capture_output=True, text=True, check=True
    )
    images = re.findall(r'image: "(.+)"', done.stdout)
    assert len(images) == 2
    assert {image.partition("/")[0] for image in images} == {"registry.example.com"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_values_exist(page: Path) -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for code in inline_code(page):
        if match := re.match(r"([a-z]\w+)((?:\.\w+)+)(?=$|:|=)", code):
            found = values
            if match[1] not in values or code.endswith((".md", ".yaml", ".py")):
                continue
            for key in match[0].split("."):
                assert key in found, code
                found = found[key]


def test_values_that_matter_exist() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = table(ROOT / "docs" / "install.md", "value")
    named = [code for row in rows for code in re.findall(r"`([\w.]+)`", row[0])]
    assert len(named) > 8
    assert {each.partition(".")[0] for each in named} <= values.keys()


def test_console_blocks_are_compared_with_a_run() -> None:
    """Only tests/demo compares them, and only those of the README."""
    assert [name(page) for page in PAGES if blocks(page, "console")] == ["README.md"]
