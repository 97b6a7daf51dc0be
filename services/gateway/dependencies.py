"""One dependency for each capability that endpoints use."""

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from services.gateway.answers.recorder import AnswerRecorder
from services.gateway.answers.store import AnswerStore
from services.gateway.auth.authenticator import Authenticator
from services.gateway.canaries.recorder import CanaryRecorder
from services.gateway.collections.cache import CollectionCache
from services.gateway.conversations.store import Conversations
from services.gateway.feedback.store import FeedbackStore
from services.gateway.http.object_writer import ObjectStage
from services.gateway.jobs.notifier import JobNotifier
from services.gateway.keys.store import Keys
from services.gateway.openai.batches.service import Batches
from services.gateway.openai.models.model_registry import ModelRegistry
from services.gateway.payloads.recorder import PayloadRecorder
from services.gateway.queries.pipelines import Pipelines
from services.gateway.queries.session import Queries
from services.gateway.settings import GatewaySettings
from services.gateway.state import Backend, GatewayState, state_of
from services.gateway.usage.recorder import UsageRecorder
from services.gateway.usage.store import UsageStore
from services.gateway.variants.selector import Router
from shared.service.bus import Bus
from shared.stores.artifacts import Artifacts
from shared.stores.collection_index import CollectionIndex
from shared.stores.collections import Collections
from shared.stores.dead_letters import DeadLetters
from shared.stores.document_index import DocumentIndex
from shared.stores.documents import Documents
from shared.stores.files import Files
from shared.stores.jobs.store import JobStore
from shared.stores.models import ModelStore
from shared.stores.payload_log import PayloadLog
from shared.stores.releases import ReleaseStore
from shared.stores.routes import Routes

__all__ = [
    "SettingsDependency",
    "PipelinesDependency",
    "SelectorDependency",
    "NotifierDependency",
    "AuthenticatorDependency",
    "AnswerRecorderDependency",
    "AnswersDependency",
    "ArtifactObjectsDependency",
    "ArtifactsDependency",
    "BatchesDependency",
    "BusDependency",
    "CanaryRecorderDependency",
    "CollectionCacheDependency",
    "CollectionIndexDependency",
    "CollectionsDependency",
    "ConversationsDependency",
    "DeadLettersDependency",
    "DocumentIndexDependency",
    "DocumentsDependency",
    "FeedbackDependency",
    "FilesDependency",
    "JobsDependency",
    "KeysDependency",
    "ModelStoreDependency",
    "ModelsDependency",
    "PayloadRecorderDependency",
    "PayloadsDependency",
    "QueriesDependency",
    "ReleasesDependency",
    "RoutesDependency",
    "UploadObjectsDependency",
    "UsageRecorderDependency",
    "UsageStoreDependency",
]

T = TypeVar("T")


def _of_state(pick: Callable[[GatewayState], T]) -> Callable[[Request], Awaitable[T]]:
    async def dependency(request: Request) -> T:
        return pick(state_of(request))

    return dependency


def _capability(pick: Callable[[Backend], T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency that waits a moment for the broker. Raises Problem BROKER_UNAVAILABLE."""

    async def dependency(request: Request) -> T:
        return pick(await state_of(request).backend())

    return dependency


BusDependency = Annotated[Bus, Depends(_capability(lambda backend: backend.bus))]
QueriesDependency = Annotated[Queries, Depends(_capability(lambda backend: backend.queries))]
CollectionsDependency = Annotated[Collections, Depends(_capability(lambda backend: backend.collections))]
CollectionCacheDependency = Annotated[CollectionCache, Depends(_capability(lambda backend: backend.cache))]
CollectionIndexDependency = Annotated[CollectionIndex, Depends(_capability(lambda backend: backend.collection_index))]
DocumentIndexDependency = Annotated[DocumentIndex, Depends(_capability(lambda backend: backend.document_index))]
DocumentsDependency = Annotated[Documents, Depends(_capability(lambda backend: backend.documents))]
JobsDependency = Annotated[JobStore, Depends(_capability(lambda backend: backend.jobs))]
UploadObjectsDependency = Annotated[ObjectStage, Depends(_capability(lambda backend: backend.objects))]
ArtifactsDependency = Annotated[Artifacts, Depends(_capability(lambda backend: backend.artifacts))]
ArtifactObjectsDependency = Annotated[ObjectStage, Depends(_capability(lambda backend: backend.artifact_objects))]
FilesDependency = Annotated[Files, Depends(_capability(lambda backend: backend.files))]
BatchesDependency = Annotated[Batches, Depends(_capability(lambda backend: backend.batches))]
DeadLettersDependency = Annotated[DeadLetters, Depends(_capability(lambda backend: backend.dead_letters))]
RoutesDependency = Annotated[Routes, Depends(_capability(lambda backend: backend.routes))]
ConversationsDependency = Annotated[Conversations, Depends(_capability(lambda backend: backend.conversations))]
UsageStoreDependency = Annotated[UsageStore, Depends(_capability(lambda backend: backend.usage))]
AnswersDependency = Annotated[AnswerStore, Depends(_capability(lambda backend: backend.answers))]
FeedbackDependency = Annotated[FeedbackStore, Depends(_capability(lambda backend: backend.feedback))]
PayloadsDependency = Annotated[PayloadLog, Depends(_capability(lambda backend: backend.payloads))]
KeysDependency = Annotated[Keys, Depends(_capability(lambda backend: backend.keys))]
ModelsDependency = Annotated[ModelRegistry, Depends(_capability(lambda backend: backend.models))]
ModelStoreDependency = Annotated[ModelStore, Depends(_capability(lambda backend: backend.model_store))]
ReleasesDependency = Annotated[ReleaseStore, Depends(_capability(lambda backend: backend.releases))]
SettingsDependency = Annotated[GatewaySettings, Depends(_of_state(lambda state: state.settings))]
PipelinesDependency = Annotated[Pipelines, Depends(_of_state(lambda state: state.pipelines))]
SelectorDependency = Annotated[Router, Depends(_of_state(lambda state: state.selector))]
NotifierDependency = Annotated[JobNotifier, Depends(_of_state(lambda state: state.notifier))]
UsageRecorderDependency = Annotated[UsageRecorder, Depends(_of_state(lambda state: state.usage))]
AnswerRecorderDependency = Annotated[AnswerRecorder, Depends(_of_state(lambda state: state.answers))]
PayloadRecorderDependency = Annotated[PayloadRecorder, Depends(_of_state(lambda state: state.payloads))]
CanaryRecorderDependency = Annotated[CanaryRecorder, Depends(_of_state(lambda state: state.canaries))]
AuthenticatorDependency = Annotated[Authenticator, Depends(_of_state(lambda state: state.authenticator))]
