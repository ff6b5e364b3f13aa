"""Every threshold of the alerts, and nothing else."""

from datetime import timedelta

from wazzup_operator.domain.states import State

RUNBOOKS = "https://wazzup.dev/runbooks"
"""Where docs/runbooks is published; `/<Alert>.md` is appended. Any place that serves the folder
will do: prometheusRule.runbookUrl of the chart replaces this prefix."""

STEP = timedelta(minutes=1)
"""How closely a window is looked at: not more often than Prometheus usually scrapes."""

# In a bad state, in a way that neither flapping nor a new pod resets: for so many minutes of the
# window. With the pending time a channel that breaks, or is new, is told of after 20 minutes, and
# one that flaps if it is down for a third of the time or more.
CHANNEL_WINDOW = timedelta(minutes=15)
CHANNEL_BAD_MINUTES = 5
CHANNEL_PENDING = timedelta(minutes=15)
"""Not less than the progress deadline: until then somebody may be about to scan the code."""

FLAPPING_WINDOW = timedelta(hours=1)
STEADY_CHANGES = 3
"""With more changes than this in the window a channel, or an account, goes to and fro, and what it
is at the moment does not end its alert. A new channel changes three times until it is Active."""

PATIENCE = {State.ON_MODERATION: timedelta(days=1)}
"""States that take their time: only one that has lasted longer than this is told of."""

# The account: told of after 8 minutes, before --stale-after turns its channels Unknown.
ACCOUNT_WINDOW = timedelta(minutes=10)
ACCOUNT_UP_SHARE = 0.7
ACCOUNT_PENDING = timedelta(minutes=5)
"""A Secret is often applied a moment after its account."""

ACCOUNT_MISSING_PENDING = timedelta(minutes=15)

UNPAID_SHARE = 0.5
"""More of an account's active channels than this, and it is the account that has no money."""

SYNC_AGE = timedelta(minutes=75)
"""The longest pollInterval is an hour, and no metric tells an account's own."""
SYNC_PENDING = timedelta(minutes=5)

OPERATOR_ABSENT = timedelta(minutes=5)
RECENTLY = timedelta(hours=6)
"""An installation that was there so long ago and is not now was not meant to go; whoever removes
one silences it for that time."""
NO_LEADER = timedelta(minutes=3)
"""A change of leader takes 22 seconds at most, and a scrape or two to be seen."""
TWO_LEADERS = timedelta(minutes=5)
"""As long as Prometheus may go on seeing the last sample of a pod that is gone."""

FAILURE_WINDOW = timedelta(minutes=10)
FAILURE_PENDING = timedelta(minutes=15)
"""Longer than the window, so that one failure is never enough."""
NOT_KEPT_WINDOW = timedelta(hours=2)
"""Twice the longest pollInterval."""
WEBHOOK_FAILURE_SHARE = 0.05

WATCH_SILENCE = timedelta(minutes=5)
"""A watch without a sign is cut after 150 seconds; after 300 /healthz fails."""
WATCH_PENDING = timedelta(minutes=5)

CERTIFICATE_SHARE = 0.25
"""Of the longest validity seen in CERTIFICATE_WINDOW. A third is left when it is renewed, whatever
the validity is set to, so a quarter means that the renewal does not work."""
CERTIFICATE_WINDOW = timedelta(days=14)
"""Within the 15 days that Prometheus keeps its data by default."""
CERTIFICATE_STEP = timedelta(minutes=30)
CERTIFICATE_PENDING = timedelta(minutes=5)

SERIES_PENDING = timedelta(minutes=15)
