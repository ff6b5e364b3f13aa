"""Forms of fields that a JSON schema cannot explain in a sentence.

The CRDs have each as a CEL rule; `wazzup-operator check` applies them to files.
"""

import re
from dataclasses import dataclass

from wazzup_operator.resources import account, channel
from wazzup_operator.resources.account import seconds

_NAME = r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?"


@dataclass(frozen=True, slots=True)
class Format:
    """The form of one field: a pattern for the whole value, in the syntax of both RE2 and Python.

    `field` is its path below spec. `between` are the least and the greatest value of a duration.
    `sentence` follows the field, or the value if `quotes_value`. `known_cause` is a pattern for
    values with a sentence of their own.
    """

    field: str
    pattern: str
    sentence: str
    between: tuple[str, str] | None = None
    quotes_value: bool = False
    known_cause: tuple[str, str] | None = None

    def fits(self, value: str) -> bool:
        """Return whether the value has this form."""
        if not re.fullmatch(self.pattern, value):
            return False
        if self.between is None:
            return True
        least, greatest = map(seconds, self.between)
        return least <= seconds(value) <= greatest

    def sentence_about(self, value: str) -> str:
        """Return what is wrong with a value that does not fit, and what to do."""
        if self.known_cause and re.fullmatch(self.known_cause[0], value):
            return self.known_cause[1]
        return self.sentence


FORMATS: dict[str, tuple[Format, ...]] = {
    channel.KIND: (
        Format(
            "accountRef.name",
            _NAME,
            "must be the name of a WazzupAccount in this namespace: lower-case letters, digits,"
            " dots and hyphens",
        ),
        Format(
            "phoneNumber",
            r"\+[1-9][0-9]{6,14}",
            "is not a phone number in E.164 form: write a plus sign, the country code and the"
            " number, 7 to 15 digits without spaces, for example +79865784457",
            quotes_value=True,
            known_cause=(
                r"[0-9.]+(e[+][0-9]+)?",
                "is not a phone number in E.164 form: YAML and helm --set drop the plus sign of a"
                ' number without quotes. Write "+79865784457" with the quotes, in files and'
                " templates, and use helm --set-string",
            ),
        ),
    ),
    account.KIND: (
        Format(
            "apiKeySecretRef.name",
            _NAME,
            "must be the name of a Secret in this namespace: lower-case letters, digits, dots and"
            " hyphens",
        ),
        Format(
            "apiKeySecretRef.key",
            r"[-._a-zA-Z0-9]+",
            "must be a key of the Secret: letters, digits, dots, hyphens and underscores",
        ),
        Format(
            "pollInterval",
            r"([0-9]{1,7}([.][0-9]{1,9})?(ms|s|m|h)){1,4}",
            "is not a duration from 5s to 1h; write one such as 30s, 5m or 1h",
            between=("5s", "1h"),
            quotes_value=True,
        ),
    ),
}
"""By kind."""
