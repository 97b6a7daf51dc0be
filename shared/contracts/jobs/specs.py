"""The kinds of jobs together: found in `shared.contracts.jobs.kinds`, which differ by their member `kind`."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError, PydanticSerializationError

from shared.contracts.jobs import kinds
from shared.contracts.jobs.spec import JobSpec

__all__ = ["KINDS", "AnyJobSpec", "decode_spec", "may_hold_feedback"]


def _find() -> Mapping[str, type[JobSpec]]:
    for module in pkgutil.iter_modules(kinds.__path__):
        importlib.import_module(f"{kinds.__name__}.{module.name}")
    return {spec.model_fields["kind"].default: spec for spec in JobSpec.__subclasses__()}


KINDS: Final = _find()
"""The spec of each kind."""

if TYPE_CHECKING:
    AnyJobSpec = JobSpec
else:
    AnyJobSpec = reduce(or_, KINDS.values())

_specs: TypeAdapter[JobSpec] = TypeAdapter(Annotated[AnyJobSpec, Field(discriminator="kind")])


def decode_spec(data: bytes | dict[str, Any], *, lenient: bool = False) -> JobSpec:
    """Raises pydantic.ValidationError for anything that is not a job spec.

    Bytes were checked by the service that wrote them, which may be a version ahead: unknown members are ignored. In a
    dict, which a person may have written, unknown members are errors, unless `lenient` is set.
    """
    if isinstance(data, bytes):
        return _specs.validate_json(data, extra="ignore")
    spec: JobSpec = _specs.validate_python(data, extra="ignore" if lenient else None)
    try:
        spec.model_dump_json()
    except PydanticSerializationError:
        # YAML and expressions can contain lone surrogates, which JSON cannot carry.
        broken = PydanticCustomError("text", "has text that is not valid Unicode")
        raise ValidationError.from_exception_data("job", [{"type": broken, "input": data}]) from None
    return spec


def may_hold_feedback(kind: str, *, sees_everything: bool) -> bool:
    """Whether a job of this kind, which may look at everything or not, may hold what readers said."""
    spec = KINDS.get(kind)
    return sees_everything and spec is not None and spec.reads_feedback
