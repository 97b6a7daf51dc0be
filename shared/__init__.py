"""What all services agree on."""

from shared.service.imports import import_when_used

# nats-py imports aiohttp for brokers behind WebSockets, OpenTelemetry psutil for a detector that is not used here.
import_when_used("aiohttp")
import_when_used("psutil")
