import pytest

from services.retriever.backup.errors import BackupError
from services.retriever.backup.settings import BackupSettings


@pytest.mark.parametrize("uri", ["", "/var/lib/sluice/index", "s3://bucket/prod"])
def test_a_backup_holds_an_index_of_files(uri: str) -> None:
    BackupSettings(index_uri=uri).check_index()


def test_an_index_in_qdrant_is_left_to_qdrants_snapshots() -> None:
    with pytest.raises(BackupError, match="--no-index"):
        BackupSettings(index_uri="qdrant://qdrant:6333/prod").check_index()
