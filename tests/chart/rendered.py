"""The chart and its rendered objects."""

from pathlib import Path

import yaml

CHART = Path(__file__).parents[2] / "charts" / "wazzup-operator"
RELEASE, NAMESPACE = "wz", "wz-system"
VALUES = sorted((CHART / "ci").glob("*-values.yaml"))
"""Files of values that the chart is rendered with."""


class Loader(yaml.SafeLoader):
    """Refuses duplicate keys, as the API server does."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"duplicate key: {keys}"
        return super().construct_mapping(node, deep)


class Rendered:
    """Rendered `text`, and its objects."""

    def __init__(self, text):
        self.text = text
        self.objects = list(yaml.load_all(text, Loader))
        assert all(self.objects), "an empty document is rendered"

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def names(self, kind):
        return sorted(each["metadata"]["name"] for each in self.all(kind))

    def one(self, kind, name):
        (found,) = [each for each in self.all(kind) if each["metadata"]["name"] == name]
        return found

    def pod(self, deployment):
        return self.one("Deployment", deployment)["spec"]["template"]["spec"]

    def container(self, deployment):
        (container,) = self.pod(deployment)["containers"]
        return container

    def kinds(self):
        return {each["kind"] for each in self.objects}


def annotations(body):
    return body["metadata"].get("annotations") or {}
