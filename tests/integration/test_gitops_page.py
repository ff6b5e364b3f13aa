"""Follows docs/gitops.md word by word, from an account to Git."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from dev.controlplane.binaries import kubectl_path
from tests.integration.harness.world import World

ROOT = Path(__file__).parents[2]
CHANNELS = {
    # phone: its state in Wazzup, its name, the state that the object shows
    "12025550111": ("active", "Sales", "Active"),
    "12025550112": ("disabled", "Old hotline", "Off"),
    "12025550113": ("qridle", "Поддержка", "ScanQRCode"),
    "12025550114": ("phoneUnavailable", "🎉", "NoConnectionWithPhone"),
}


def steps() -> list[str]:
    page = (ROOT / "docs" / "gitops.md").read_text()
    section = page.partition("\n## From an account to Git\n")[2].partition("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


class Shell:
    """A person's shell: a repository, a key beside it, a namespace of the cluster."""

    def __init__(self, world: World) -> None:
        self.repository = world.directory / "repository"
        self.repository.mkdir()
        (world.directory / "key.txt").write_text(world.key + "\n")
        kubeconfig = shutil.copy(world.plane.kubeconfig, world.directory / "kubeconfig")
        programs = (Path(sys.executable).parent, kubectl_path().parent, os.environ["PATH"])
        self.environment = {
            "PATH": os.pathsep.join(map(str, programs)),
            "HOME": str(world.directory),
            "KUBECONFIG": str(kubeconfig),
            "WAZZUP_OPERATOR_WAZZUP_URL": world.simulator.base_url,
            "GIT_CONFIG_NOSYSTEM": "1",
        }
        self.run("git init --initial-branch=main")
        self.run("git config user.name x && git config user.email x@example.org")
        self.run(f"kubectl config set-context --current --namespace={world.api.namespace}")

    def run(self, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.repository,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=180,
        )


def test_from_an_account_to_git(world: World) -> None:
    shell = Shell(world)
    for phone, (state, name, _) in CHANNELS.items():
        world.add(phone, state=state, name=name)
    world.controller().wait_ready()
    assert len(steps()) == 6
    output = ""
    for step in steps():
        done = shell.run(step)
        assert world.key not in done.stdout + done.stderr
        assert done.returncode == 0, (step, done.stdout, done.stderr)
        output += done.stdout
    for phone, (_, _, state) in CHANNELS.items():
        assert re.search(rf"\+{phone} +(true|false) +{state} ", output), output
    assert shell.run("git status --porcelain").stdout == ""
    check_of_a_pull_request(shell)


def check_of_a_pull_request(shell: Shell) -> None:
    """Run the last step of the job for GitHub before and after a number changes."""
    job = yaml.safe_load((ROOT / "examples" / "github" / "check.yaml").read_text())
    script = job["jobs"]["check"]["steps"][-1]["run"]
    shell.run("git update-ref refs/remotes/origin/main main")
    assert shell.run(script, GITHUB_BASE_REF="main").returncode == 0
    shell.run("sed -i s/12025550111/12025550119/ wazzup/channels/channel-sales.yaml")
    done = shell.run(script, GITHUB_BASE_REF="main")
    assert done.returncode == 1
    assert done.stdout.startswith(
        "::error file=wazzup/channels/channel-sales.yaml,line=6,title=phone-number-changed::"
    )
