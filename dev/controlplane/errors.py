"""What the control plane says when it cannot do what it was asked to do."""


class ControlPlaneError(Exception):
    """Something the caller can act on; its text is a sentence for a person, printed as it is."""


def log_tail(text: str, lines: int = 15) -> str:
    """The last `lines` lines of a log's text, indented, to stand below a sentence."""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])
