"""Every router of the HTTP API, in the order of the OpenAPI document."""

from typing import Final

from services.gateway.admin.router import router as admin
from services.gateway.answers.router import router as answers
from services.gateway.artifacts.router import router as artifacts
from services.gateway.collections.router import router as collections
from services.gateway.conversations.router import router as conversations
from services.gateway.documents.router import router as documents
from services.gateway.feedback.router import router as feedback
from services.gateway.inference.generate.router import router as generate
from services.gateway.inference.router import direct as inferences
from services.gateway.inference.router import router as inference
from services.gateway.jobs.router import router as jobs
from services.gateway.keys.router import router as keys
from services.gateway.openai.batches.router import router as batches
from services.gateway.openai.chat.router import router as chat
from services.gateway.openai.completions.router import router as completions
from services.gateway.openai.embeddings.router import router as embeddings
from services.gateway.openai.files.router import router as files
from services.gateway.openai.models.router import router as models
from services.gateway.passages.router import router as passages
from services.gateway.payloads.router import router as payloads
from services.gateway.queries.router import router as queries
from services.gateway.registry.router import router as registry
from services.gateway.releases.archives.router import router as release_archives
from services.gateway.releases.router import router as releases
from services.gateway.rerank.router import router as rerank
from services.gateway.runs.router import router as runs
from services.gateway.schedules.router import router as schedules
from services.gateway.sessions.router import router as sessions
from services.gateway.usage.router import router as usage
from services.gateway.variants.router import router as variants

__all__ = ["DIRECT", "ROUTERS"]

QUERY_PATH: Final = (queries, chat, completions, embeddings, rerank)

DIRECT: Final = (*QUERY_PATH, inferences)
"""The routers of the query path, whose endpoints are called without FastAPI's layers."""

ROUTERS: Final = (
    *QUERY_PATH,
    models,
    registry,
    release_archives,
    releases,
    files,
    batches,
    collections,
    documents,
    passages,
    jobs,
    runs,
    artifacts,
    schedules,
    admin,
    variants,
    keys,
    sessions,
    conversations,
    usage,
    answers,
    feedback,
    inference,
    generate,
    payloads,
)
