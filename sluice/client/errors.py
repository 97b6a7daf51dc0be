"""What the client raises: one exception that carries the problem (RFC 9457) that Sluice reported."""

from sluice.api.problems import ProblemDetails

__all__ = ["ModelSourceError", "SluiceError", "UnreachableError"]


class SluiceError(Exception):
    """Sluice refused or failed a request; `problem` says what is wrong and what to do."""

    def __init__(self, problem: ProblemDetails, *, retry_after: float | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.retry_after = retry_after

    def __str__(self) -> str:
        parts = (part for part in (self.problem.title, self.problem.detail) if part)
        return ": ".join(parts) or f"HTTP {self.problem.status}"

    @property
    def code(self) -> str:
        """The last part of the problem's type, such as `collection-not-found`: stable, for programs."""
        return self.problem.type.rpartition(":")[2]

    @property
    def status(self) -> int:
        """The HTTP status, or 0 where no response came."""
        return self.problem.status


class UnreachableError(SluiceError):
    """No answer came from the address: nothing listens there, or the connection broke off."""

    def __init__(self, detail: str, *, title: str = "Sluice cannot be reached") -> None:
        super().__init__(ProblemDetails(type="urn:sluice:problem:unreachable", title=title, detail=detail))


class ModelSourceError(SluiceError):
    """A model to import cannot be read, or is not what its checksums say."""

    def __init__(self, detail: str) -> None:
        title = "The model cannot be read"
        super().__init__(ProblemDetails(type="urn:sluice:problem:model-source", title=title, detail=detail))
