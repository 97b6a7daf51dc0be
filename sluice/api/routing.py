"""What the HTTP API says of the variants of stages, as typed, immutable models."""

from sluice.api.base import Schema, Timestamp

__all__ = ["Route", "Variant"]


class Variant(Schema):
    """`share` and `shadow` are percentages of the queries that visit the stage; `workers` are ready processes."""

    variant: str
    weight: float = 0.0
    share: float = 0.0
    shadow: float = 0.0
    workers: int = 0


class Route(Schema):
    """The variants of a stage. `revision` is that of the last change, 0 for a stage that nobody has routed;
    `warnings` are for a person to read."""

    stage: str
    variants: tuple[Variant, ...] = ()
    revision: int = 0
    updated_at: Timestamp | None = None
    updated_by: str = ""
    warnings: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[str, float]:
        """The weights above zero."""
        return {variant.variant: variant.weight for variant in self.variants if variant.weight}

    @property
    def shadows(self) -> dict[str, float]:
        """The shadows above zero, in percent."""
        return {variant.variant: variant.shadow for variant in self.variants if variant.shadow}
