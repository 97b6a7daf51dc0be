"""The gateway: the HTTP API in front of the stages."""
