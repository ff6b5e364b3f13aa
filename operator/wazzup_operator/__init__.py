"""A Kubernetes operator for WhatsApp channels connected to Wazzup."""
