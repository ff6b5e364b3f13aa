"""The controller: watches the objects, lists the accounts, writes the statuses that differ."""
