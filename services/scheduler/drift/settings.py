"""Settings of the watch for drift."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["DriftSettings"]


class DriftSettings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="SLUICE_", extra="ignore", hide_input_in_errors=True)

    drift: bool = Field(
        False, description="Compare logged payloads of models with earlier ones; SLUICE_PAYLOADS says what is logged."
    )
    drift_reference_rows: int = Field(
        1000, ge=50, le=10_000, description="Rows of a model that later ones are compared with: the oldest in the log."
    )
    drift_window_rows: int = Field(500, ge=50, le=10_000, description="Latest rows that are compared with them.")
    question_drift: bool = Field(
        False, description="Compare the questions to each collection with earlier ones; needs SLUICE_KEEP_ANSWERS."
    )
    question_drift_minutes: float = Field(60.0, gt=0, description="Minutes between two comparisons of questions.")
    question_drift_hours: float = Field(24.0, gt=0, description="Hours whose questions are compared with earlier ones.")
    question_drift_reference_days: float = Field(
        7.0, gt=0, description="Days before these hours, whose questions they are compared with."
    )
    question_drift_sample: int = Field(
        200, ge=50, le=1000, description="Questions of a collection of each of the two that are embedded and compared."
    )
