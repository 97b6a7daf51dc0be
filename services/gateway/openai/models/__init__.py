"""Models and the variants that run them: /v1/models."""
