"""examples/argocd/argocd-cm.yaml: the health check of both kinds for Argo CD's ConfigMap."""

from pathlib import Path
from textwrap import indent

from wazzup_operator.resources import account, channel
from wazzup_operator.resources.base import GROUP

_HEAD = """\
# The health of both kinds in Argo CD, generated from resource_customizations/. Apply it with
# --server-side, which keeps the other keys of the ConfigMap.
apiVersion: v1
kind: ConfigMap
metadata:
  name: argocd-cm
  namespace: argocd
  labels:
    app.kubernetes.io/name: argocd-cm
    app.kubernetes.io/part-of: argocd
data:
"""


def argocd_config(customizations: Path) -> str:
    """Return the ConfigMap with the health.lua in a folder of resource customizations."""
    script = indent((customizations / GROUP / "_" / "health.lua").read_text(), " " * 4)
    keys = [
        f"  resource.customizations.health.{GROUP}_{kind}: |\n{script}"
        for kind in (account.KIND, channel.KIND)
    ]
    return _HEAD + "".join(keys)
