"""Dead letters as the HTTP API shows them."""

from typing import Any, Final

from services.gateway.auth.principal import Principal
from shared.stores.dead_letters import DeadLetter

__all__ = ["payload_text", "shown"]

LONGEST: Final = 64 * 1024
"""Characters of a message that are shown."""


def shown(letter: DeadLetter) -> dict[str, Any]:
    return {"seq": letter.sequence, **letter.model_dump(exclude={"sequence"})}


def payload_text(principal: Principal, subject: str, payload: bytes) -> str | None:
    """The beginning of a message as text; None where the caller may not read it: a query has passages of documents."""
    if not principal.sees_all and not subject.startswith("job."):
        return None
    return payload.decode(errors="replace")[:LONGEST]
