"""The webhook's certificates: the controller issues and renews them, the webhook loads them."""
