"""Models of the store: /v1/registry/models."""
