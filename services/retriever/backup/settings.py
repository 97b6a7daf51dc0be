"""Settings of backup and restore: those of the broker and of the index, as the retriever has them."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.retriever.backup.errors import BackupError
from services.retriever.stores.qdrant.address import is_qdrant
from shared.nats.settings import BrokerSettings, QueueSettings

__all__ = ["BackupSettings"]


class BackupSettings(BrokerSettings, QueueSettings):
    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    data_dir: Path = Field(Path(".sluice"), description="Folder for what is kept on this machine.")
    index_uri: str = Field(
        "",
        description="Folder or object-store URI of the index, or qdrant://host:6333/prefix; empty: <data_dir>/index.",
    )
    index_storage_options: dict[str, str] = Field({}, description="Object-store options as JSON, as Lance names them.")

    def check_index(self) -> None:
        """Raises BackupError where the index is not of files, which a backup holds."""
        if is_qdrant(self.uri):
            raise BackupError(
                "the index is in Qdrant, whose own snapshots back it up: "
                "leave it out (`sluice backup --no-index`), and see docs/qdrant.md"
            )

    @property
    def uri(self) -> str:
        return self.index_uri or str(self.data_dir / "index")
