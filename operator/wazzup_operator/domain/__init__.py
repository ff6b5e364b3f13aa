"""States, reasons, numbers, listings. Imports no other package, no Kubernetes and no HTTP."""
