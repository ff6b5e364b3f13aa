"""Forms of names in Kubernetes."""

import re


def is_label(text: str) -> bool:
    """Return whether this is a DNS-1123 label, like names of namespaces."""
    return bool(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text))


def is_subdomain(text: str) -> bool:
    """Return whether this is a DNS-1123 subdomain, like names of most objects."""
    part = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
    return len(text) <= 253 and bool(re.fullmatch(rf"{part}(\.{part})*", text))
