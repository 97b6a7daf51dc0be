"""People who have signed in by OpenID, and what their groups let them do."""

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel, ConfigDict

from services.gateway.auth.identity import principals_of
from services.gateway.auth.principal import Principal
from services.gateway.settings import GatewaySettings
from shared.contracts.keys import Action
from shared.contracts.principals import ALL, MOST_PRINCIPALS

__all__ = ["NoGrantError", "People", "Person"]

NAMES: Final = ("name", "preferred_username", "email", "sub")
"""Claims by which a person is called, the best first."""

LONGEST_NAME: Final = 100


class NoGrantError(Exception):
    """None of a person's groups may do anything."""


class Person(BaseModel):
    """Who has signed in. `groups` are those that a grant names; `principals` are who they look at documents as."""

    model_config = ConfigDict(frozen=True)

    id: str
    name: str
    groups: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()


class People:
    """Knows people by the claims of their provider, and what they may do by the grants of the settings."""

    def __init__(self, settings: GatewaySettings) -> None:
        # Without a provider nobody has signed in, whatever the grants say.
        self._grants = settings.openid_grants if settings.openid_issuer else ()
        self._groups_claim = settings.openid_groups_claim
        self._kinds = settings.identity_claims

    def person(self, claims: Mapping[str, Any]) -> Person:
        """Who the verified claims of an ID token are about. Raises NoGrantError for one who may do nothing."""
        given = claims.get(self._groups_claim, [])
        groups = {group for group in (given if isinstance(given, list) else [given]) if isinstance(group, str)}
        person = Person(
            id=str(claims["sub"]),
            name=next(filter(None, (_printable(claims.get(name)) for name in NAMES)), "somebody"),
            groups=tuple(sorted(groups & {grant.group for grant in self._grants})),
            principals=principals_of(claims, self._kinds)[:MOST_PRINCIPALS],
        )
        self.principal(person)
        return person

    def principal(self, person: Person) -> Principal:
        """What a person may do now, by the first grant that fits. Raises NoGrantError."""
        for grant in self._grants:
            if not grant.group or grant.group in person.groups:
                actions = Action.all_of(grant.actions)
                # Who may change documents sees them all, as with a key.
                manages = bool(actions & {Action.WRITE, Action.ADMIN})
                return Principal(
                    tenant=grant.tenant,
                    actions=actions,
                    collections=grant.collections,
                    key=f"openid:{person.id}",
                    name=person.name,
                    principals=(ALL,) if manages else (),
                    identity=None if manages else person.principals,
                    person=True,
                )
        raise NoGrantError


def _printable(name: object) -> str:
    return "".join(filter(str.isprintable, name)).strip()[:LONGEST_NAME] if isinstance(name, str) else ""
