"""The command `check`: files, Git, reports, exit codes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.admission_cases import OTHER_PHONE, PHONE

ROOT = Path(__file__).parents[3]
ACCOUNT = """\
apiVersion: wazzup.dev/v1
kind: WazzupAccount
metadata: {name: default}
spec: {apiKeySecretRef: {name: wazzup}}
"""
HEAVY = {"kubernetes", "kopf", "cryptography", "aiohttp"}


def channel(name="support", number=PHONE):
    return (
        f"apiVersion: wazzup.dev/v1\nkind: WazzupChannel\nmetadata:\n  name: {name}\n"
        f'spec:\n  phoneNumber: "{number}"\n'
    )


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.fixture
def git(tmp_path, monkeypatch):
    """Return a function that runs git in tmp_path, which becomes a repository."""
    for variable in [each for each in os.environ if each.startswith("GIT_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    identity = ["-c", "user.name=x", "-c", "user.email=x@example.org"]

    def git(*words):
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--initial-branch=main")
    return git


def test_the_examples_are_accepted(run):
    done = run("check", ROOT / "examples")
    assert done.code == 0
    assert ": 0 errors, " in done.err
    assert [each for each in done.out.splitlines() if "/testdata/" not in each] == []


def test_templates_are_not_checked(run):
    done = run("check", ROOT / "charts", ROOT / "crds", ROOT / "deploy")
    assert done.code == 0, done.out
    assert "warning: The file is a template and was not checked. Check what it" in done.out


def test_problems_are_one_line_each_with_file_and_line(run, tmp_path):
    write(tmp_path / "all" / "b.yml", ACCOUNT + "---\n" + channel(number="+12"))
    write(tmp_path / "all" / "a" / "x.json", json.dumps({"kind": "WazzupChannel"}))
    done = run("check", "all")
    assert done.code == 1
    assert done.out == (
        "all/a/x.json:1: error: WazzupChannel must have apiVersion wazzup.dev/v1. [unknown-kind]\n"
        'all/b.yml:11: error: WazzupChannel "support": spec.phoneNumber "+12" is not a phone number'
        " in E.164 form: write a plus sign, the country code and the number, 7 to 15 digits"
        " without spaces, for example +79865784457. [schema]\n"
    )
    assert done.err == "3 objects in 2 files: 2 errors, 0 warnings.\n"


def test_standard_input(run):
    done = run("check", "-", stdin=("\ufeff" + ACCOUNT + "---\n" + channel()).encode())
    assert done == (0, "", "2 objects in 1 file: 0 errors, 0 warnings.\n")
    done = run("check", "-", stdin=channel(number="+12").encode())
    assert (done.code, done.out.partition(" ")[0]) == (1, "stdin:6:")


def test_which_files_of_a_folder_are_read(run, tmp_path):
    for name in (".hidden/a.yaml", ".a.yaml", "a.txt", "a.yaml.bak"):
        write(tmp_path / "all" / name, "wazzup: [")
    write(tmp_path / "all" / "template.yaml", "{{ if }}: [")
    write(tmp_path / "all" / "binary.json", b"\xff\xfe\x00")
    done = run("check", "all")
    assert done == (0, "", "No WazzupChannel or WazzupAccount in 2 files.\n")


def test_a_file_that_is_named_twice_is_checked_once(run, tmp_path):
    write(tmp_path / "all" / "a.yaml", ACCOUNT + "---\n" + channel())
    done = run("check", "all", "./all", "all/a.yaml")
    assert done == (0, "", "2 objects in 1 file: 0 errors, 0 warnings.\n")


def test_texts_that_cannot_be_read(run, tmp_path):
    write(tmp_path / "a.yaml", "wazzup: x\nx: [")
    write(tmp_path / "b.yaml", channel().encode("utf-16"))
    write(tmp_path / "c.yaml", channel().encode() + b"# \xe9")
    done = run("check", "a.yaml", "b.yaml", "c.yaml")
    assert done.code == 1
    first, *others = done.out.splitlines()
    assert first.startswith("a.yaml:3: error: The file is not YAML: did not find expected node")
    assert "c.yaml:1: error: The file is not UTF-8 text. Save it as UTF-8. [yaml]" in others


def test_json(run, tmp_path):
    write(tmp_path / "a.yaml", channel())
    done = run("check", "--format=json", "a.yaml")
    assert json.loads(done.out) == {
        "problems": [
            {
                "file": "a.yaml",
                "line": 5,
                "severity": "warning",
                "rule": "account-missing",
                "message": 'WazzupChannel "support" refers to the WazzupAccount "default", which is'
                " not among these files. Add it, unless it is in the cluster already.",
            }
        ]
    }
    write(tmp_path / "b.yaml", ACCOUNT)
    assert json.loads(run("check", "--format=json", "b.yaml").out) == {"problems": []}


def test_annotations_of_github(run, tmp_path):
    write(tmp_path / "a,b:c%.yaml", channel('"%\\n\\r"', "1\\n2"))
    name, number = run("check", "--format=github", "a,b:c%.yaml").out.splitlines()
    place, title = "::error file=a%2Cb%3Ac%25.yaml,line=", 'WazzupChannel "%25%0A%0D": '
    assert name.startswith(f"{place}4,title=schema::{title}metadata.name")
    assert number.startswith(f'{place}6,title=schema::{title}spec.phoneNumber "1\\n2" is not a')


CHANGES = {
    "phone-number-changed": channel(number=OTHER_PHONE),
    "transport-changed": channel() + "  transport: wapi\n",
    "channel-id-changed": channel() + "  channelID: b\n",
}


@pytest.mark.parametrize("rule", CHANGES)
def test_changes_since_a_commit(run, git, tmp_path, rule):
    has_id = rule == "channel-id-changed"
    write(tmp_path / "channels" / "a.yaml", channel() + "  channelID: a\n" * has_id)
    write(tmp_path / "other" / "kept.yaml", channel("kept", "+447400123456"))
    git("add", ".")
    git("commit", "-m", "base")
    assert run("check", "--base=main", "channels").code == 0
    (tmp_path / "channels" / "a.yaml").unlink()
    write(tmp_path / "channels" / "deeper" / "ä b.yaml", ACCOUNT + "---\n" + CHANGES[rule])
    done = run("check", "--base", "main", "channels")
    assert done.code == 1
    assert f"[{rule}]" in done.out
    assert done.out.startswith("channels/deeper/ä b.yaml:1")
    assert run("check", "channels").code == 0


def test_changes_of_a_single_file(run, git, tmp_path):
    write(tmp_path / "-a.yaml", ACCOUNT + "---\n" + channel())
    write(tmp_path / "b.yaml", ACCOUNT)
    git("add", "./-a.yaml")
    git("commit", "-m", "base")
    write(tmp_path / "-a.yaml", channel(number=OTHER_PHONE))
    done = run("check", "--base=HEAD", "./-a.yaml", "b.yaml")
    assert (done.code, done.out.count("\n")) == (1, 1)


def one_line(done):
    assert (done.code, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert line.startswith("wazzup-operator check: ")
    return line


def test_wrong_use(run, git, tmp_path, tmp_path_factory, monkeypatch):
    write(tmp_path / "a.yaml", ACCOUNT)
    assert "PATH" in one_line(run("check"))
    assert "nowhere" in one_line(run("check", "nowhere"))
    assert "xml" in one_line(run("check", "--format=xml", "a.yaml"))
    assert "standard input" in one_line(run("check", "--base=main", "-"))
    assert 'no commit "main"' in one_line(run("check", "--base=main", "a.yaml"))
    assert 'no commit "--all"' in one_line(run("check", "--base=--all", "a.yaml"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    assert "not a git repository" in one_line(run("check", "--base=main", elsewhere))
    monkeypatch.setenv("PATH", "")
    assert "git is not installed" in one_line(run("check", "--base=main", "a.yaml"))


def test_a_file_that_may_not_be_read(run, tmp_path):
    (tmp_path / "a.yaml").symlink_to(tmp_path / "gone")
    (tmp_path / "all").mkdir()
    (tmp_path / "all" / "a.yaml").symlink_to(tmp_path / "gone")
    assert "all/a.yaml: No such file or directory." in one_line(run("check", "all"))


def test_the_help_has_examples(run):
    done = run("check", "--help")
    assert done.code == 0
    assert "kubectl kustomize . | wazzup-operator check -" in done.out


def test_the_command_imports_no_client():
    """That is what would make it slow."""
    program = (
        "import sys; sys.argv[1:] = ['check', sys.argv[1]]\n"
        "from wazzup_operator.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({each.partition('.')[0] for each in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, ROOT / "examples"],
        capture_output=True,
        text=True,
        check=True,
    )
    modules = set(done.stdout.splitlines()[-1].split())
    assert {"wazzup_operator", "yaml"} <= modules
    assert modules & HEAVY == set()


def test_output_that_nobody_reads_to_its_end(tmp_path):
    write(tmp_path / "a.yaml", "---\n".join(channel(f"c{n}") for n in range(3000)))
    command = f"{sys.executable} -m wazzup_operator check a.yaml | head -1"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.count("\n") == 1
    assert "Traceback" not in done.stderr
    assert "Error" not in done.stderr
