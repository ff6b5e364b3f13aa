"""The validating webhook. The only package that imports kopf."""
