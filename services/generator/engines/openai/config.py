"""Where the model server is and how to ask it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import SecretStr

from shared.prompting.templating import Templates

__all__ = ["OpenAIConfig"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAIConfig:
    """`model` empty: the first that the server lists. `window` 0: what the server says of itself, as vLLM does in
    `max_model_len`, and 8,192 tokens for one that does not. Times are in seconds.

    `tokenizer` is a `tokenizer.json`, or the folder it is in; without one tokens are estimated, and a quarter of the
    window is left unused for that. `resumes` says that the server takes `continue_final_message`, as vLLM and SGLang
    do, so that another worker can go on with an answer.
    """

    base_url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    api_key: SecretStr = field(default_factory=lambda: SecretStr(""))
    first_token: float = 60.0
    silence: float = 60.0
    max_retries: int = 2
    room: int = 32
    window: int = 0
    tokenizer: Path | None = None
    resumes: bool = False
    limit_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    templates: Templates = field(default_factory=Templates)
