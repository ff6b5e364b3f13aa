"""The webhook: what is refused or warned of before it is stored. The only room that knows kopf."""
