"""The life of a channel, told in the terminal on a real Kubernetes API and a simulated Wazzup."""
