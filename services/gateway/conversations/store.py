"""Conversations as records in the bucket `conversations`: the content of each, and for each owner a list of them.

A conversation is written before the list names it, and leaves the list before it is removed. So a list may lack a
conversation for a moment, and one that is left behind goes after a while, as all that nobody goes on with.
"""

import hashlib
import time
from collections.abc import Callable
from typing import Final

from nats.js import JetStreamContext

from services.gateway.conversations.models import MOST, ConversationList, StoredConversation, Summary
from services.gateway.http.preconditions import matches
from shared.contracts.problems import Problem, ProblemType
from shared.nats.kv import Repository, Stored
from shared.nats.subjects import CONVERSATIONS

__all__ = ["Conversations"]

LIST: Final = "list"
"""The name of an owner's list; no conversation has so short an id."""


class Conversations:
    """The conversations of all owners. An owner is a key or a person of a tenant."""

    def __init__(self, jetstream: JetStreamContext) -> None:
        self._records = Repository(
            jetstream, CONVERSATIONS, StoredConversation.model_validate_json, noun="conversation"
        )
        self._lists = Repository(
            jetstream, CONVERSATIONS, ConversationList.model_validate_json, noun="list of conversations"
        )

    async def list(self, tenant: str, owner: str) -> tuple[Summary, ...]:
        """The owner's conversations, the last changed first."""
        found = await self._lists.get(_key(tenant, owner, LIST))
        return found.conversations if found is not None else ()

    async def get(self, tenant: str, owner: str, conversation: str) -> Stored[StoredConversation]:
        """Raises Problem NOT_FOUND."""
        found = await self._records.read(_key(tenant, owner, conversation))
        if found is None:
            raise Problem(ProblemType.NOT_FOUND, f"There is no conversation '{conversation[:80]}'.")
        return found

    async def put(
        self, tenant: str, owner: str, conversation: str, content: StoredConversation, *, if_match: str | None = None
    ) -> tuple[Summary, int]:
        """Write a conversation, and forget the oldest where there are too many. Returns its revision too.

        Raises Problem CONFLICT, and PRECONDITION_FAILED where it is not the one that `if_match` names.
        """
        key, revision = _key(tenant, owner, conversation), None
        if if_match is not None:
            stored = await self._records.read(key)
            revision = stored.revision if stored is not None else 0
            if not matches(if_match, revision):
                raise _changed(conversation)
        written = await self._records.put(key, content, revision=revision)
        if written is None:
            raise _changed(conversation)
        summary = Summary(
            id=conversation,
            title=content.title,
            collection=content.collection,
            pipeline=content.pipeline,
            changed_at=time.time(),
        )
        forgotten = await self._change_list(
            tenant, owner, lambda known: (summary, *(one for one in known if one.id != conversation))[:MOST]
        )
        for one in forgotten:
            await self._records.purge(_key(tenant, owner, one.id))
        return summary, written

    async def delete(self, tenant: str, owner: str, conversation: str) -> None:
        """Remove a conversation; one that is not there is no error. Raises Problem CONFLICT."""
        await self._change_list(tenant, owner, lambda known: tuple(one for one in known if one.id != conversation))
        await self._records.purge(_key(tenant, owner, conversation))

    async def delete_all(self, tenant: str, owner: str) -> None:
        """Remove all of the owner's conversations. Raises Problem CONFLICT."""
        for one in await self._change_list(tenant, owner, lambda _: ()):
            await self._records.purge(_key(tenant, owner, one.id))

    async def _change_list(
        self, tenant: str, owner: str, change: Callable[[tuple[Summary, ...]], tuple[Summary, ...]]
    ) -> tuple[Summary, ...]:
        """Returns those that the list does not name any more."""

        def changed(before: ConversationList | None) -> ConversationList:
            return ConversationList(conversations=change(before.conversations if before is not None else ()))

        before, after = await self._lists.change(_key(tenant, owner, LIST), changed)
        assert after is not None
        kept = {one.id for one in after.conversations}
        return tuple(one for one in (before.conversations if before is not None else ()) if one.id not in kept)


def _changed(conversation: str) -> Problem:
    detail = f"The conversation '{conversation[:80]}' has changed since you read it. Read it again."
    return Problem(ProblemType.PRECONDITION_FAILED, detail)


def _key(tenant: str, owner: str, name: str) -> str:
    # An owner's name may hold characters that the broker allows in no key.
    return f"{tenant}.{hashlib.sha256(owner.encode()).hexdigest()}.{name}"
