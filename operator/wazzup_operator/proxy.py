"""Proxies from the environment: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as in curl."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy for this URL, if the environment sets one."""
    parts = urlsplit(url)
    proxy = None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)
    return f"http://{proxy}" if proxy and "://" not in proxy else proxy
