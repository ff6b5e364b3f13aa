"""Changes of single fields that leave the rest of a text as it is."""

import pytest
import yaml

from wazzup_operator.gitops.edit import CannotEdit, add_resources, scalar, set_spec

BLOCK = """\
# top
apiVersion: wazzup.dev/v1   # version
kind: WazzupChannel
metadata: {name: support}
spec:
    phoneNumber: '+79865784457'   # Ann's phone
    # drawer two
    displayName: Поддержка 🎉 # the name
    active:   yes

---
other: document
"""


def test_a_value_is_replaced_in_place():
    assert set_spec(BLOCK, 0, {"active": False, "displayName": "Sales"}) == BLOCK.replace(
        "yes", "false"
    ).replace("Поддержка 🎉", '"Sales"')


def test_a_field_is_added_after_the_number():
    assert set_spec(BLOCK, 0, {"channelID": "a-b"}) == BLOCK.replace(
        "# Ann's phone\n", '# Ann\'s phone\n    channelID: "a-b"\n'
    )


def test_the_last_line_may_lack_its_end():
    text = 'spec:\n  phoneNumber: "+7"'
    assert set_spec(text, 0, {"active": False}) == text + "\n  active: false"


def test_line_ends_of_windows_stay():
    text = BLOCK.replace("\n", "\r\n")
    assert set_spec(text, 0, {"channelID": "a", "active": False}) == text.replace(
        "phone\r\n", 'phone\r\n    channelID: "a"\r\n'
    ).replace("yes", "false")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('spec: {phoneNumber: "+7"}', 'spec: {phoneNumber: "+7", active: false}'),
        (
            '{"spec": {\n  "phoneNumber": "+7"\n}}\n',
            '{"spec": {\n  "phoneNumber": "+7", "active": false\n}}\n',
        ),
        (
            "spec:\n  displayName: |\n    x\n  phoneNumber: '+7'\n  active: true\n",
            "spec:\n  displayName: |\n    x\n  phoneNumber: '+7'\n  active: false\n",
        ),
        (
            "kind: List\nitems:\n- spec: {phoneNumber: '1'}\n",
            "kind: List\nitems:\n- spec: {phoneNumber: '1', active: false}\n",
        ),
        (
            "x: &x {active: true}\nspec:\n  <<: *x\n  phoneNumber: '1'\n",
            "x: &x {active: true}\nspec:\n  <<: *x\n  phoneNumber: '1'\n  active: false\n",
        ),
    ],
)
def test_other_ways_to_write(text, expected):
    assert set_spec(text, 0, {"active": False}) == expected


def test_a_block_scalar_is_replaced():
    text = "spec:\n  displayName: |-\n    Sales\n  active: true\n"
    assert set_spec(text, 0, {"displayName": "x"}) == 'spec:\n  displayName: "x"\n  active: true\n'


@pytest.mark.parametrize(
    "text",
    [
        "x: &x {phoneNumber: '1'}\nspec: *x\n",  # would change x, too
        "x: &x true\nspec:\n  active: *x\n  phoneNumber: '1'\n",
        "x: &x {phoneNumber: '1'}\nspec:\n  <<: *x\n",
        "spec:\n  active: &x true\n  other: *x\n",
        "spec:\n  ? phoneNumber\n  : '1'\n",
    ],
)
def test_what_cannot_be_changed_alone(text):
    with pytest.raises(CannotEdit):
        set_spec(text, 0, {"active": False})


KUSTOMIZATIONS = {
    "resources:\n- a.yaml # first\n\n# end\n": (
        "resources:\n- a.yaml # first\n- b.yaml\n- c.yaml\n\n# end\n"
    ),
    "resources:\n  - a.yaml\nnamespace: x\n": (
        "resources:\n  - a.yaml\n  - b.yaml\n  - c.yaml\nnamespace: x\n"
    ),
    "namespace: x": "namespace: x\nresources:\n- b.yaml\n- c.yaml\n",
    "namespace: x\n": "namespace: x\nresources:\n- b.yaml\n- c.yaml\n",
}


@pytest.mark.parametrize(("text", "expected"), KUSTOMIZATIONS.items())
def test_resources_are_added(text, expected):
    assert add_resources(text, ["b.yaml", "c.yaml"]) == expected


@pytest.mark.parametrize("text", ["resources: [a]", "resources: x", "", "a: [", "a: 1\n---\nb: 1"])
def test_resources_that_cannot_be_added(text):
    with pytest.raises(CannotEdit):
        add_resources(text, ["b.yaml"])


@pytest.mark.parametrize(
    "value",
    [
        "x",
        "y",
        "",
        " a ",
        'quo"te',
        "a\nb\r\t\x00\x7f\x85\u2028\ufeff",
        "🎉" * 200,
        "x " * 300,
        "#",
    ],
)
def test_a_scalar_is_one_line_and_read_back(value):
    written = scalar(value)
    assert len(written.splitlines()) == 1
    assert yaml.safe_load(f"a: {written} # comment") == {"a": value}
