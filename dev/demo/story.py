"""The life of one channel, from a file in Git to a number that is no longer used."""

import json
import shutil
from collections.abc import Callable, Sequence

from dev.demo.stage import MANIFEST, NAMESPACE, RELEASE, WEBHOOK, Stage
from dev.demo.steps import Chapter, InWazzup, Run, Say, StartOperator, StartWebhook, Step

PHONE = "12025550102"
"""The number of the WazzupChannel "support" in examples/, in Wazzup's spelling."""

_RENAMED = "Help desk"
_HERE = '{"spec": {"type": "ExternalName", "externalName": "127.0.0.1"}}'
_KEY = "kubectl get secret wazzup -o go-template='{{.data.apiKey | base64decode}}'"
_FIGURES = "^wazzup_(channels|api_requests).* [1-9]"


def story(stage: Stage) -> Sequence[Step]:
    """Return the steps, in order."""
    return [
        Chapter(
            "A cluster with the operator",
            "An administrator applies the manifest: the CRDs, service accounts with their "
            "permissions, the webhook configuration, and a Deployment for each process.",
        ),
        Run(f"kubectl apply --server-side -f {MANIFEST}"),
        Run("kubectl wait crd --all --for=condition=Established --timeout=30s"),
        Say(
            "This cluster has no kubelet, so the Deployments get no Pods. Instead, both processes "
            "run on this machine as the manifest's service accounts, and the webhook's Service "
            "points to this machine."
        ),
        Run(_in_system(f"patch service {WEBHOOK} --type=merge -p '{_HERE}'")),
        Run(
            f"kubectl patch validatingwebhookconfiguration {RELEASE}"
            f" -p '{_at_port(stage.webhook_port)}'"
        ),
        StartOperator(),
        Chapter(
            "Channels are declared",
            "A platform engineer applies an API key, an account and four channels.",
        ),
        InWazzup("The account already has the other channels, and one more.", _populate),
        Run("kubectl apply -f examples/"),
        Say("The operator polls Wazzup every 10 seconds. Here it polls every 5, to save time."),
        Run(_patch("wzacc default", '{"spec": {"pollInterval": "5s"}}')),
        Run("kubectl wait wzacc/default --for=condition=Ready --timeout=30s"),
        Run(_wait("{.status.channels.declared}", "4", of="wzacc/default")),
        Run("kubectl get wzch -o wide"),
        Say("The account counts its channels and shows the one that nobody has declared."),
        Run("kubectl get wzacc"),
        Run(_show("wzacc default", "{.status.unmanaged}")),
        Chapter(
            "Not added, scan the code, active",
            "The status says who must do what. A person does it, and the status follows.",
        ),
        InWazzup("A person adds the number.", _add),
        Run(_state("ScanQRCode")),
        Run("kubectl get wzch"),
        Run("kubectl describe wzch support"),
        InWazzup("The person scans the QR code with the number's phone.", _do("scan")),
        Run("kubectl wait wzch/support --for=condition=Ready --timeout=30s"),
        Run("kubectl get wzch support"),
        Chapter("The phone dies and returns", "Nobody has noticed yet, but the status shows it."),
        InWazzup("The phone's battery dies.", _do("lose-phone")),
        Run(_state("NoConnectionWithPhone")),
        Run("kubectl get wzch support -o wide"),
        InWazzup("Somebody charges the phone.", _do("find-phone")),
        Run(_state("Active")),
        Chapter("Out of money, and paid", "This stops every channel of the account at once."),
        InWazzup("The balance runs out.", lambda on: on.wazzup.run_out_of_money()),
        Run(_state("NotPaidFor")),
        Run("kubectl get wzch"),
        Run(_show("wzch support", "{.status.action}")),
        InWazzup("The bookkeeper pays.", lambda on: on.wazzup.pay()),
        Run("kubectl wait wzch --all --for=condition=Ready --timeout=30s"),
        Chapter(
            "Renamed",
            "Anybody can rename a channel in Wazzup. The status shows a name that differs from the "
            "declared one as drift, and the channel stays Ready.",
        ),
        InWazzup(
            f'A person renames the channel to "{_RENAMED}".',
            lambda on: on.wazzup.patch_channel(on.channel(PHONE), name=_RENAMED),
        ),
        Run(_wait("{.status.drift[0].observed}", f"'{_RENAMED}'")),
        Run(_show("wzch support", "{.status.drift}")),
        Run("kubectl get wzch support"),
        Say("The team adopts the new name."),
        Run(_patch("wzch support", f'{{"spec": {{"displayName": "{_RENAMED}"}}}}')),
        Run(_wait("{.status.observedGeneration}", "2")),
        Run(_show("wzch support", "drift: [{.status.drift}]")),
        Chapter(
            "Switched off",
            "The team declares a number off that it no longer uses. The operator cannot turn it "
            "off, because Wazzup's API only lists channels, so the status says who must.",
        ),
        Run(_patch("wzch support", '{"spec": {"active": false}}')),
        Run(_wait('{.status.conditions[?(@.type=="Ready")].reason}', "StillActive")),
        Run("kubectl get wzch support -o wide"),
        InWazzup("A person turns the channel off.", _do("untick")),
        Run("kubectl wait wzch/support --for=condition=Ready --timeout=30s"),
        Run("kubectl get wzch support -o wide"),
        Chapter(
            "A number cannot be replaced",
            "Somebody tries to give the channel another number. The API server refuses.",
        ),
        Run(_patch("wzch support", '{"spec": {"phoneNumber": "+12025550105"}}'), refused=True),
        Chapter(
            "Refused before it is stored",
            "The rules in the CRDs need no process. The webhook can do more: it compares objects "
            "with each other, and it warns.",
        ),
        StartWebhook(),
        Run("kubectl apply -f dev/demo/duplicate.yaml", refused=True),
        Say("It accepts a change that a person must carry out in Wazzup, with a warning."),
        Run(_patch("wzch support", '{"spec": {"active": true}}')),
        Chapter(
            "An account becomes files",
            "No object declares one of the channels in Wazzup. The team keeps its files in Git: it "
            "exports what they lack, and checks them before it applies them.",
        ),
        Run(
            f"install -D --target-directory={stage.files} examples/02-account.yaml"
            " examples/03-channels.yaml"
        ),
        Run(
            f"{_KEY} | wazzup-operator export --api-key-file=-"
            f" --wazzup-url={stage.wazzup.base_url} --output-dir={stage.files}"
        ),
        Run(f"cat {stage.files}/channel-marketing.yaml"),
        Run(f"wazzup-operator check {stage.files}"),
        Run(f"kubectl apply -f {stage.files}/channel-marketing.yaml"),
        Run("kubectl wait wzch/marketing --for=condition=Ready --timeout=30s"),
        Run("kubectl get wzch"),
        Chapter("What remains", "Events with the channel's history, and metrics for alerts."),
        Run("kubectl events --for wazzupchannel/support"),
        Run(f"{_get(f'http://{stage.metrics}/metrics')} | grep -E '{_FIGURES}'"),
    ]


def _in_system(command: str) -> str:
    return f"kubectl --namespace={NAMESPACE} {command}"


def _at_port(port: int) -> str:
    """Return a patch that sets the port in the webhook configuration."""
    config = {"service": {"port": port}}
    names = ("channel.wazzup.dev", "account.wazzup.dev")
    return json.dumps({"webhooks": [{"name": name, "clientConfig": config} for name in names]})


def _populate(stage: Stage) -> None:
    add = stage.wazzup.add_channel
    add("12025550101", name="Delivery", state="active")
    add("12025550103", name="Hotline", state="disabled")
    add("12025550104", "wapi", name="Newsletter", state="active")
    add("12025550106", name="Marketing", state="active")


def _add(stage: Stage) -> None:
    stage.wazzup.add_channel(PHONE, name="Support")


def _do(action: str) -> Callable[[Stage], object]:
    return lambda stage: stage.wazzup.act(stage.channel(PHONE), action)


def _patch(target: str, change: str) -> str:
    return f"kubectl patch {target} --type=merge -p '{change}'"


def _show(target: str, path: str) -> str:
    return f"kubectl get {target} -o jsonpath='{path}{{\"\\n\"}}'"


def _state(state: str) -> str:
    return _wait("{.status.state}", state)


def _wait(path: str, value: str, *, of: str = "wzch/support") -> str:
    return f"kubectl wait {of} --for=jsonpath='{path}'={value} --timeout=30s"


def _get(url: str) -> str:
    if shutil.which("curl"):
        return f"curl -sS {url}"
    code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
    return f"python3 -c '{code}' {url}"
