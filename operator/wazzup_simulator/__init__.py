"""A stand-in for Wazzup's public API v3, for tests and demonstrations.

Under ``/v3`` it answers as Wazzup documents it, oddities included; under ``/_sim`` it takes what
people and the service itself would do: add a number, scan a code, lose a phone, not pay, break.

Where a docstring names a source, "Working with channels" and "Common errors" are pages of
Wazzup's API documentation, "Channel statuses" is a page of its manual, and "seen live" means that
the real service was reported to answer so, although no page says it.
"""
