"""Types of flags. Each says in one line what to write."""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import click

from wazzup_operator.resources.account import seconds
from wazzup_operator.resources.base import NamespacedName
from wazzup_operator.resources.naming import is_label, is_subdomain
from wazzup_operator.settings import Address, series_label

_LABEL_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")


def _is_label_key(text: str) -> bool:
    prefix, slash, name = text.rpartition("/")
    return bool(_LABEL_NAME.fullmatch(name)) and (not slash or is_subdomain(prefix))


class Duration(click.ParamType[timedelta]):
    """A Go duration, such as 90s or 1h."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the value, or say what to write."""
        try:
            return timedelta(seconds=seconds(str(value)))
        except ValueError as error:
            self.fail(str(error), param, ctx)
        except OverflowError:
            self.fail(f"{value!r} is too long; write one such as 30s, 5m or 1h", param, ctx)


class ListenAddress(click.ParamType[Address]):
    """An address to listen on, such as :8080."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address:
        """Return the value, or say what to write."""
        host, colon, port = str(value).rpartition(":")
        if not colon or not re.fullmatch(r"\d{1,5}", port) or int(port) > 65535:
            self.fail(f"{value!r} is not an address; write :8080 or 127.0.0.1:8080", param, ctx)
        return Address(host.strip("[]"), int(port))


class Url(click.ParamType[str]):
    """An HTTP or HTTPS URL."""

    name = "url"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what to write."""
        try:
            parts = urlsplit(str(value))
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            self.fail(
                f"{value!r} is not a URL; write one such as https://api.wazzup24.com", param, ctx
            )
        return str(value)


class Namespace(click.ParamType[str]):
    """The name of a namespace."""

    name = "namespace"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what to write."""
        if not is_label(str(value)):
            self.fail(f"{value!r} is not a namespace name; repeat the flag for several", param, ctx)
        return str(value)


class Validity(Duration):
    """Validity of a certificate.

    A shorter one might expire before the kubelet mounts its renewal; with a longer one, a CA would
    stay trusted for more than a year after its rotation.
    """

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the value, or say what to write."""
        validity = super().convert(value, param, ctx)
        if not timedelta(hours=1) <= validity <= timedelta(hours=8760):
            self.fail(f"{value!r} is out of range; write a duration from 1h to 8760h", param, ctx)
        return validity


class Name(click.ParamType[str]):
    """The name of an object: a DNS-1123 subdomain, or a label for Services."""

    name = "name"

    def __init__(self, *, label: bool = False) -> None:
        self._fits = is_label if label else is_subdomain
        self._form = "letters, digits and hyphens" if label else "letters, digits, hyphens and dots"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the value, or say what to write."""
        if not self._fits(str(value)):
            self.fail(f"{value!r} is not a valid name; use lower-case {self._form}", param, ctx)
        return str(value)


class SecretName(click.ParamType[NamespacedName]):
    """The namespace and name of a Secret."""

    name = "namespace/name"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> NamespacedName:
        """Return the value, or say what to write."""
        namespace, _, name = str(value).partition("/")
        if not (is_label(namespace) and is_subdomain(name)):
            self.fail(f"{value!r} is not the NAMESPACE/NAME of a Secret", param, ctx)
        return NamespacedName(namespace, name)


class MetricLabels(click.ParamType[tuple[str, ...]]):
    """Keys of labels, separated by commas; few, because each multiplies series."""

    name = "keys"
    most = 8

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the value, or say what to write."""
        if isinstance(value, tuple):  # click converts defaults again
            return value
        keys = tuple(filter(None, (key.strip() for key in str(value).split(","))))
        for key in keys:
            if not _is_label_key(key):
                self.fail(f"{key!r} is not the key of a label; write one such as team", param, ctx)
        if len(keys) > self.most:
            self.fail(f"{len(keys)} labels are too many; name at most {self.most}", param, ctx)
        if len({series_label(key) for key in keys}) < len(keys):
            self.fail("two of these labels would have the same name; remove one", param, ctx)
        return keys


def setting(flag: str, *names: str, **attributes: Any) -> Callable[[Any], Any]:
    """Add a flag that is also an environment variable of the same name."""
    name = flag.partition("/")[0].lstrip("-").replace("-", "_").upper()
    attributes = {"show_default": True, **attributes}
    return click.option(
        flag, *names, envvar=f"WAZZUP_OPERATOR_{name}", show_envvar=True, **attributes
    )
