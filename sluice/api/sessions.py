"""What the HTTP API says of the caller, as typed, immutable models."""

from typing import Annotated

from sluice.api.base import Schema, closed_set
from sluice.api.keys import ACTIONS

__all__ = ["Session"]


class Session(Schema):
    """Whom the gateway takes the caller for, and what they may do.

    `keys_required` says whether the gateway asks for keys; where it does not, everybody may do everything, and `key`
    and `name` are empty. `documents_hidden` says whether documents may be hidden from the caller. `conversations` says
    where the console keeps conversations. `feedback` says whether answers are kept, so that readers may judge them.
    """

    keys_required: bool = True
    key: str = ""
    name: str = ""
    tenant: str = "default"
    actions: tuple[Annotated[str, closed_set(*ACTIONS)], ...] = ()
    collections: tuple[str, ...] = ()
    documents_hidden: bool = False
    conversations: Annotated[str, closed_set("browser", "server")] = "browser"
    feedback: bool = False
