"""What the operator is about, free of Kubernetes and of HTTP. Imports nothing else of ours."""
