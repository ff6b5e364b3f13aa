"""Reads an account's listing for a person at a terminal or a pipeline."""

from wazzup_operator.domain.api_key import rejection
from wazzup_operator.wazzup.client import WazzupClient
from wazzup_operator.wazzup.errors import WazzupError
from wazzup_operator.wazzup.survey import Survey, read_survey

_SENTENCES = {
    "403": "Wazzup does not allow this API key to list channels (403). Use a key with that"
    " permission.",
    "404": "There is no list of channels at this address (404). Check --wazzup-url.",
    "429": "Wazzup is rate limiting: there were too many requests (429). Try again in a minute.",
    "timeout": "Wazzup did not answer in time. Check the network and the proxy, then try again.",
    "connection": "Cannot connect to Wazzup, or its certificate is not trusted. Check the network,"
    " the proxy and --wazzup-url.",
    "malformed": "Wazzup's answer is not a list of channels. Check --wazzup-url and the proxy.",
}
"""By the code of the error, whose own message is written for an account's status."""


class NoListing(Exception):
    """There is no listing; the message says why and what to do."""


async def survey(url: str, api_key: str) -> Survey:
    """Return what the account holds. Raises NoListing."""
    client = WazzupClient(url, lambda operation, code, duration: None)
    try:
        return read_survey(await client.download(api_key))
    except WazzupError as error:
        raise NoListing(_sentence(error, api_key)) from error
    finally:
        await client.close()


def _sentence(error: WazzupError, api_key: str) -> str:
    if error.code == "401":
        return f"{rejection(api_key)} Copy it again from Wazzup: CRM integration, API."
    if error.code in _SENTENCES:
        return _SENTENCES[error.code]
    if not error.code.isdigit():
        return str(error)
    if error.code.startswith("3"):
        return f"Wazzup redirects to another address ({error.code}). Check --wazzup-url."
    return f"Wazzup answered with an error ({error.code}). Try again later."
