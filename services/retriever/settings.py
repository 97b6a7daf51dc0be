"""Settings of the retriever."""

from pathlib import Path

from pydantic import Field, SecretStr

from shared.service.settings import ServiceSettings

__all__ = ["RetrieverSettings"]


class RetrieverSettings(ServiceSettings):
    index_uri: str = Field(
        "",
        description="Folder or object-store URI of the index, or qdrant://host:6333/prefix; empty: <data_dir>/index.",
    )
    index_api_key: SecretStr = Field(SecretStr(""), description="API key of Qdrant, where it wants one.")
    index_storage_options: dict[str, str] = Field({}, description="Object-store options as JSON, as Lance names them.")
    index_from_rows: int = Field(2_000, ge=256, description="Chunks from which a vector index replaces the exact scan.")
    index_freshness: float = Field(1.0, ge=0, description="Seconds after which other replicas' commits are seen.")
    index_memory_mb: int = Field(
        1_024,
        ge=0,
        description="Memory for the collections that are searched in memory, MiB; 0 searches the disk alone.",
    )
    index_cache_dir: str = Field(
        "", description="Folder on a local disk for the files of what is in memory; empty: <data_dir>/serving."
    )
    retriever_variant: str = Field(
        "default", description="Variant of the stage that this process serves; `default` also writes the index."
    )
    retriever_room: int = Field(32, ge=1, description="Searches at the same time.")
    upkeep_pause: float = Field(2.0, ge=0, description="Seconds without a commit before the indices are updated.")
    upkeep_commits: int = Field(8, ge=1, description="Commits after which the indices are updated without one.")
    upkeep_passages: int = Field(1_000, ge=1, description="New passages after which they are updated too.")

    @property
    def uri(self) -> str:
        return self.index_uri or str(self.data_dir / "index")

    @property
    def cache_dir(self) -> Path:
        return Path(self.index_cache_dir) if self.index_cache_dir else self.data_dir / "serving"
