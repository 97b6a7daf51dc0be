"""Routes between the variants of a stage, and shadow traffic: /v1/routes."""
