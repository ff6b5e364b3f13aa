"""States, reasons, numbers, listings. Imports no other room, no Kubernetes and no HTTP."""
