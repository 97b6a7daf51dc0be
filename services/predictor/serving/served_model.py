"""A loaded model that answers requests: those that come together and fit are one call."""

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, Self

import numpy as np
from pydantic import JsonValue

from services.predictor.frameworks.base import Array, Arrays, InvalidInputError, LoadedModel
from services.predictor.serving.arrays import to_tensor
from services.predictor.serving.signature import chosen_outputs, read_inputs, rows_of
from shared.contracts.envelope import Lane
from shared.contracts.problems import Problem, ProblemType
from shared.contracts.tensors import InferRequest, Tensor
from shared.reasons import told
from shared.runtime.batching import Batcher

__all__ = ["ModelLimits", "ServedModel"]

log = logging.getLogger(__name__)

LONGEST_ERROR: Final = 500
"""Characters of what a framework says that its caller is told."""

NO_LIMIT: Final = 1 << 20
"""Requests of one batch where their rows are the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """`batch_rows` of one call, 0 where requests are not joined; `waiting` requests at most wait for the model."""

    batch_rows: int
    waiting: int


def _within(limits: ModelLimits, most_rows: int | None) -> ModelLimits:
    return limits if most_rows is None else replace(limits, batch_rows=min(limits.batch_rows, most_rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """`rows` is None for one that is not joined with others."""

    inputs: Arrays
    outputs: tuple[str, ...]
    parameters: Mapping[str, JsonValue]
    rows: int | None

    @property
    def kind(self) -> tuple[object, ...]:
        """Requests of the same kind may be one call."""
        shapes = tuple((name, array.dtype.str, array.shape[1:]) for name, array in sorted(self.inputs.items()))
        return shapes, self.outputs, json.dumps(self.parameters, sort_keys=True)


_Outcome = Arrays | Problem
"""A request of a batch fails on its own."""


class ServedModel:
    """Infers within the block of `running`. `threads` run the model."""

    def __init__(self, label: str, model: LoadedModel, limits: ModelLimits, threads: Executor) -> None:
        self.signature = model.signature
        self._label = label
        self._model = model
        self._limits = _within(limits, model.signature.most_rows)
        self._threads = threads
        self._datatypes = {spec.name: spec.datatype for spec in self.signature.outputs}
        self._joins = self.signature.rows and self._limits.batch_rows > 0
        self._waiting = 0
        self._batcher = Batcher[_Request, _Outcome](
            self._run,
            name="predict",
            max_items=NO_LIMIT if self._joins else 1,
            max_cost=max(1, self._limits.batch_rows),
            cost=lambda request: request.rows or self._limits.batch_rows,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        async with self._batcher.running():
            yield self

    async def infer(self, request: InferRequest, lane: Lane) -> tuple[Tensor, ...]:
        """Raises Problem INVALID_REQUEST, MODEL_FAILED, or QUEUE_FULL where too many requests wait for the model."""
        inputs = read_inputs(self.signature, request)
        outputs = chosen_outputs(self.signature, request)
        rows = rows_of(inputs) if self._joins else None
        if self._waiting >= self._limits.waiting:
            detail = f"{self._waiting} requests wait for the model {self._label} already. Try again in a moment."
            raise Problem(ProblemType.QUEUE_FULL, detail, headers={"Retry-After": "1"})
        self._waiting += 1
        try:
            asked = _Request(inputs=inputs, outputs=outputs, parameters=request.parameters, rows=rows)
            outcome = await self._batcher.submit(asked, lane)
        finally:
            self._waiting -= 1
        if isinstance(outcome, Problem):
            raise outcome
        return self._tensors(outcome, outputs)

    async def close(self) -> None:
        """Once no request is in work any more."""
        await asyncio.get_running_loop().run_in_executor(self._threads, self._model.close)

    async def _run(self, requests: Sequence[_Request]) -> list[_Outcome]:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._call_all, requests)

    def _call_all(self, requests: Sequence[_Request]) -> list[_Outcome]:
        groups: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            groups[(index,) if request.rows is None else request.kind].append(index)
        outcomes: dict[int, _Outcome] = {}
        for indices in groups.values():
            outcomes.update(zip(indices, self._call_group([requests[index] for index in indices]), strict=True))
        return [outcomes[index] for index in range(len(requests))]

    def _call_group(self, requests: Sequence[_Request]) -> Sequence[_Outcome]:
        first = requests[0]
        if first.rows is None:
            return [self._call(first)]
        if len(requests) == 1:
            return [self._call_rows(first)]
        joined = {name: np.concatenate([request.inputs[name] for request in requests]) for name in first.inputs}
        rows = [request.rows or 0 for request in requests]
        outcome = self._call_rows(
            _Request(inputs=joined, outputs=first.outputs, parameters=first.parameters, rows=sum(rows))
        )
        if isinstance(outcome, Problem):
            # One of them may be to blame: the others are not to fail with it.
            return [self._call_rows(request) for request in requests]
        ends = np.cumsum(rows)[:-1]
        parts = {name: np.split(array, ends) for name, array in outcome.items()}
        return [{name: part[index] for name, part in parts.items()} for index in range(len(requests))]

    def _call_rows(self, request: _Request) -> _Outcome:
        """A request of more rows than a batch may have takes several calls."""
        rows, most = request.rows or 0, self._limits.batch_rows
        if rows <= most:
            return self._call(request)
        outcomes: list[Arrays] = []
        for start in range(0, rows, most):
            part = {name: array[start : start + most] for name, array in request.inputs.items()}
            outcome = self._call(
                _Request(
                    inputs=part,
                    outputs=request.outputs,
                    parameters=request.parameters,
                    rows=min(most, rows - start),
                )
            )
            if isinstance(outcome, Problem):
                return outcome
            outcomes.append(outcome)
        return {name: np.concatenate([outcome[name] for outcome in outcomes]) for name in outcomes[0]}

    def _call(self, request: _Request) -> _Outcome:
        try:
            made = self._model.predict(request.inputs, request.outputs, request.parameters)
        except Problem as problem:
            return problem
        except InvalidInputError as error:
            detail = f"The model {self._label} does not take this input: {told(str(error))[:LONGEST_ERROR]}"
            return Problem(ProblemType.INVALID_REQUEST, detail)
        except BaseException as error:
            # A panic of a library in Rust is no Exception, and no other error comes into this thread from outside.
            log.warning("the model %s failed", self._label, exc_info=error)
            return self._failed(f"{type(error).__name__}: {error}")
        if request.rows is not None:
            for name, array in made.items():
                if array.ndim == 0 or array.shape[0] != request.rows:
                    shape = list(array.shape)
                    return self._failed(f"the output '{name}' has the shape {shape} for {request.rows} rows")
        return made

    def _tensors(self, arrays: Arrays, outputs: Sequence[str]) -> tuple[Tensor, ...]:
        if missing := next((name for name in outputs if name not in arrays), None):
            raise self._failed(f"it gave no output '{missing}'")
        try:
            return tuple(self._tensor(name, arrays[name]) for name in outputs or arrays)
        except (TypeError, ValueError) as error:
            raise self._failed(str(error)) from None

    def _tensor(self, name: str, array: Array) -> Tensor:
        return to_tensor(name, array, self._datatypes.get(name))

    def _failed(self, why: str) -> Problem:
        return Problem(ProblemType.MODEL_FAILED, f"The model {self._label} failed: {told(why)[:LONGEST_ERROR]}")
