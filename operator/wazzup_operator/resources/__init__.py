"""The two kinds as pydantic models, and the CRDs made from them."""
