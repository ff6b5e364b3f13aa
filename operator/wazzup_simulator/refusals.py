"""Why a control request is turned down; the message is one sentence for a person."""


class RefusalError(Exception):
    """A control request that cannot be done."""


class NotFoundError(RefusalError):
    """It names something that does not exist."""


class ConflictError(RefusalError):
    """It contradicts what exists."""


class InvalidError(RefusalError):
    """Its content makes no sense."""
