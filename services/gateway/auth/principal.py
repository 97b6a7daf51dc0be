"""The caller of a request, and what they may do."""

from dataclasses import dataclass, field
from typing import Final

from services.gateway.auth.limits import Limits
from shared.contracts.documents import Document
from shared.contracts.feedback import no_feedback
from shared.contracts.jobs import KINDS, EvaluateSpec, IngestSpec, JobOptions, JobSpec, PipelineSpec
from shared.contracts.keys import EVERY_COLLECTION, Action, permitted
from shared.contracts.principals import ALL, USER, is_permitted
from shared.contracts.problems import Problem, ProblemType

__all__ = ["ANONYMOUS", "Principal"]

DEFAULT_TENANT: Final = "default"

PLACEHOLDER: Final = "${{"

BY_DOCUMENT: Final = frozenset({"delete", "permit"})
"""Kinds of jobs that change documents by their ids."""

DEFAULT_COLLECTION: Final = EvaluateSpec.model_fields["collection"].default


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Whose request it is. `key` and `name` are those of the API key, empty where none is asked for; a `person` who has
    signed in without one has a name too, and a key of the form `openid:ID`.

    `principals` are those of the key, and `identity` those of who asks through it, None where the request does not say.
    """

    tenant: str
    actions: frozenset[Action] = field(default_factory=lambda: frozenset(Action))
    collections: tuple[str, ...] = EVERY_COLLECTION
    key: str = ""
    name: str = ""
    limits: Limits | None = None
    principals: tuple[str, ...] = ()
    identity: tuple[str, ...] | None = None
    person: bool = False

    @property
    def reads_as(self) -> tuple[str, ...]:
        """The principals that documents are looked at with.

        Who may change documents sees them all, unless the key names principals or the request says who asks. A key that
        names principals carries no others for anybody.
        """
        own = self.principals or ((ALL,) if self.may(Action.WRITE, Action.ADMIN) else ())
        if self.identity is None:
            return own
        if not self.principals or ALL in self.principals:
            return self.identity
        return tuple(principal for principal in self.identity if principal in self.principals)

    @property
    def sees_all(self) -> bool:
        """Whether no document is hidden from the caller by its list."""
        return ALL in self.reads_as

    @property
    def sees_everything(self) -> bool:
        """Whether the caller may look at all collections of the tenant, and no document of them is hidden."""
        return self.may(Action.READ) and self.collections == EVERY_COLLECTION and self.sees_all

    def sees_document(self, document: Document) -> bool:
        """Whether the document's list permits the caller."""
        return is_permitted(document.allowed, self.reads_as)

    def may(self, *any_of: Action) -> bool:
        return not self.actions.isdisjoint(any_of)

    def need(self, *any_of: Action) -> None:
        """Raises Problem FORBIDDEN unless the caller may do one of these."""
        if not self.may(*any_of):
            wanted = " or ".join(f"'{action}'" for action in any_of)
            raise Problem(ProblemType.FORBIDDEN, f"{self._holder} lacks the action {wanted}.")

    def sees(self, collection: str) -> bool:
        """Whether a collection of this name, if there is one, is there for the caller; no collection ("") is."""
        return not collection or permitted(self.collections, collection)

    def need_collection(self, collection: str) -> str:
        """The name. Raises Problem FORBIDDEN, whether there is such a collection or not."""
        if not self.sees(collection):
            raise Problem(ProblemType.FORBIDDEN, f"{self._holder} is not for the collection '{collection[:80]}'.")
        return collection

    def need_spec(self, spec: JobSpec) -> JobSpec:
        """The spec. Raises Problem FORBIDDEN for a job that does what the caller may not do directly.

        The scheduler checks the collections that a pipeline names only as it runs: see `options`.
        """
        self._need_kind(spec.kind, sourced=isinstance(spec, IngestSpec) and spec.source is not None)
        self._need_all_documents(spec.kind)
        self._need_all_feedback(spec.kind, feedback=getattr(spec, "feedback", True))
        self.need_collection(getattr(spec, "collection", ""))
        for step in spec.steps.values() if isinstance(spec, PipelineSpec) else ():
            kind = str(step.job.get("kind"))
            self._need_kind(kind, sourced="source" in step.job)
            self._need_all_documents(kind)
            self._need_all_feedback(kind, feedback=step.job.get("feedback", True))
            named = step.job.get("collection", DEFAULT_COLLECTION if kind == "evaluate" else "")
            if isinstance(named, str) and PLACEHOLDER not in named:
                self.need_collection(named)
        return spec

    def _need_all_documents(self, kind: str) -> None:
        """Raises Problem FORBIDDEN for a job that names documents which may not be there for the caller."""
        if kind in BY_DOCUMENT and not self.sees_all:
            detail = (
                f"A caller who does not see every document submits no job '{kind}': use the document's own address."
            )
            raise Problem(ProblemType.FORBIDDEN, detail)

    def _need_all_feedback(self, kind: str, *, feedback: object) -> None:
        """Raises Problem FORBIDDEN for a job that reads what everybody said, as the scheduler does for one whose
        `feedback` is known only as its pipeline runs."""
        spec = KINDS.get(kind)
        if spec is not None and spec.reads_feedback and feedback is True and not self.sees_everything:
            raise no_feedback()

    def _need_kind(self, kind: str, *, sourced: bool) -> None:
        spec = KINDS.get(kind)
        if spec is not None and spec.required_action is not None:
            self.need(spec.required_action)
        if sourced:
            self.need(Action.SYSTEM)

    def options(self, options: JobOptions) -> JobOptions:
        """What goes with a job of the caller's: whose it is, and which collections and documents it may look at."""
        about = {"by": self.by(options.by), "collections": self.collections, "principals": self.reads_as}
        return options.model_copy(update=about)

    def by(self, said: str) -> str:
        """The name under which a change is noted: the key's, or the name that a caller without a key gives, and the
        user where the request says who asks through it."""
        through = self.name or said
        return f"{self.user} through {through}" if self.user and through else self.user or through

    @property
    def _holder(self) -> str:
        return "Your account" if self.person else "This API key"

    @property
    def user(self) -> str:
        """Who asks, where the request says so: `user:alice`."""
        return next((one for one in self.identity or () if one.startswith(USER)), "")

    @property
    def reader(self) -> str:
        """Whose questions these are: the user where the request says who asks, or else the key; "" for nobody's."""
        return self.user or self.key

    def spend(self, tokens: int) -> None:
        """Count the tokens of an answer against the key's limit."""
        if self.limits is not None:
            self.limits.spend(tokens)


ANONYMOUS: Final = Principal(tenant=DEFAULT_TENANT)
"""Whoever asks a gateway that asks for no keys."""
