"""The controller: follows the objects, lists the accounts, writes what differs."""
