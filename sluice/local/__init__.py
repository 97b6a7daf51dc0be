"""All of Sluice on one machine: `sluice up` starts nats-server and the five services and keeps them running."""

__all__: list[str] = []
