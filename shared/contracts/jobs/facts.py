"""What an experiment run is noted to have run with: code, data and trace."""

from shared.contracts.wire import Wire

__all__ = ["CodeVersion", "DataVersion", "RunFacts"]


class CodeVersion(Wire):
    """The version of Sluice, and the git revision and the image where the deployment names them."""

    version: str = ""
    revision: str = ""
    image: str = ""


class DataVersion(Wire):
    """What a run has read. `files` are the digests of the artifacts that its spec names, by their names.

    `index` stands for the index of the collection's `version`, and `documents` grows with every change of what is in
    it: runs in which both are the same have seen the same documents.
    """

    files: dict[str, str] = {}
    version: str = ""
    index: str = ""
    documents: int = 0


class RunFacts(Wire):
    """`code`, `trace` and the files are those of the last try, the collection's version is that of the first."""

    code: CodeVersion = CodeVersion()
    data: DataVersion = DataVersion()
    trace: str = ""
