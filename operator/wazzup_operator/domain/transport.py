"""Transports of WhatsApp channels."""

from enum import StrEnum


class Transport(StrEnum):
    """How a number is connected; objects cannot declare other transports."""

    meaning: str

    def __new__(cls, value: str, meaning: str) -> "Transport":
        """Make a member from its spelling in Wazzup's API and its meaning."""
        member = str.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    WHATSAPP = "whatsapp", "a phone that scanned a QR code"
    WAPI = "wapi", "the WhatsApp Business API"

    __hash__ = str.__hash__
    """Enum's own is written in Python, and every pass hashes the number of every object."""
