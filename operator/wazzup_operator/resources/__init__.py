"""The two kinds as pydantic models, and their CRDs."""
