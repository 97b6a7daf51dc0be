"""The base of what services write on the wire."""

from pydantic import BaseModel, ConfigDict

__all__ = ["Wire"]


class Wire(BaseModel):
    """Immutable, and tolerant of members added by a newer version."""

    model_config = ConfigDict(
        frozen=True, extra="allow", ser_json_bytes="base64", val_json_bytes="base64", ser_json_inf_nan="constants"
    )
