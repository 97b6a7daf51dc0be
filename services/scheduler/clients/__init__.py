"""Clients of the stages and of the HTTP API, which jobs call over the bus."""
