"""A simulator of Wazzup's public API v3, for tests and demos.

``/v3`` answers as Wazzup documents it, oddities included. ``/_sim`` is the control interface: it
does what people and the service would do, such as adding a number, scanning a code, losing a
phone, running out of money or failing.

Sources in docstrings: "Working with channels" and "Common errors" are pages of Wazzup's API
documentation, "Channel statuses" is a page of its manual. "Seen live" is undocumented behaviour
reported of the real service.
"""
