"""Parameters of an answer in vLLM's words."""

from collections.abc import Mapping
from typing import Any, Final

from vllm import CompletionOutput, SamplingParams
from vllm.logprobs import Logprob
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from services.generator.engines.vllm.stop_strings import Piece
from shared.contracts.generation import GenerateParams, OutputFormat, TokenLogprob

__all__ = ["piece_of", "sampling_params", "structured"]

LEAST_LOGPROB: Final = -9999.0
"""Instead of minus infinity, which JSON does not know."""


def structured(output: OutputFormat | None) -> StructuredOutputsParams | None:
    """The grammar that the answer must follow. Raises vLLM's validation errors."""
    if output is None:
        return None
    return StructuredOutputsParams(
        json=output.json_schema,
        json_object=output.json_object,
        regex=output.regex,
        choice=list(output.choice) if output.choice else None,
        grammar=output.grammar,
    )


def sampling_params(
    params: GenerateParams,
    *,
    max_tokens: int,
    defaults: Mapping[str, Any],
    grammar: StructuredOutputsParams | None,
    skip_special_tokens: bool,
) -> SamplingParams:
    """`defaults` are the model's own, from its generation_config. Stop strings are looked for elsewhere."""
    chosen = {
        "temperature": params.temperature,
        "top_p": params.top_p,
        "top_k": params.top_k,
        "min_p": params.min_p,
        "presence_penalty": params.presence_penalty,
        "frequency_penalty": params.frequency_penalty,
        "repetition_penalty": params.repetition_penalty,
        "seed": params.seed,
        "logprobs": params.logprobs,
    }
    own = {name: value for name, value in defaults.items() if name != "max_tokens"}
    return SamplingParams(
        **(own | {name: value for name, value in chosen.items() if value is not None}),
        max_tokens=max_tokens,
        min_tokens=min(params.min_tokens, max_tokens),
        ignore_eos=params.ignore_eos,
        structured_outputs=grammar,
        skip_special_tokens=skip_special_tokens,
        output_kind=RequestOutputKind.DELTA,
    )


def piece_of(output: CompletionOutput, *, tops: int) -> Piece:
    """The text, tokens and log probabilities that one output adds to the answer; `tops` alternatives a token."""
    tokens = tuple(output.token_ids)
    places = zip(tokens, output.logprobs or (), strict=False)
    return Piece(output.text, tokens, tuple(_logprob(token, place, tops) for token, place in places))


def _logprob(token: int, place: Mapping[int, Logprob], tops: int) -> TokenLogprob:
    # vLLM gives the likeliest and, where it is none of them, the token itself.
    likeliest = sorted(place.values(), key=lambda one: one.rank or 0)[:tops]
    return TokenLogprob(
        token=place[token].decoded_token or "",
        logprob=_finite(place[token].logprob),
        top=tuple((one.decoded_token or "", _finite(one.logprob)) for one in likeliest),
    )


def _finite(logprob: float) -> float:
    return max(float(logprob), LEAST_LOGPROB)
