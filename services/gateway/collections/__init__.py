"""Collections: /v1/collections."""
