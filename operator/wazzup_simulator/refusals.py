"""Refusals of control requests. The messages are for people."""


class RefusalError(Exception):
    """The control request is refused."""


class NotFoundError(RefusalError):
    """The request names something that does not exist."""


class ConflictError(RefusalError):
    """The request conflicts with the current state."""


class InvalidError(RefusalError):
    """The request's content is invalid."""
