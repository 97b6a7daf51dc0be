"""API keys, their store and their endpoints: /v1/keys."""
