"""The webhook's certificates: made and kept by the controller, loaded by the webhook."""
