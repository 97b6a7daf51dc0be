"""One deployment on Ray Serve, which joins requests: `python -m benchmarks.peers.serve_ray PORT FOLDER`"""

import sys
from typing import Any

import numpy as np
from ray import serve
from starlette.requests import Request

from benchmarks.peers.ray_process import serve_until_stopped
from benchmarks.peers.serve_onnx import Model, name_of, outputs_of, rows_of


@serve.deployment(max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0})
class Small:
    def __init__(self) -> None:
        self._model = Model()

    @serve.batch(max_batch_size=32, batch_wait_timeout_s=0.0)
    async def _predict(self, rows: list[Any]) -> list[Any]:
        found = self._model(np.concatenate(rows))
        return np.split(found, np.cumsum([len(each) for each in rows])[:-1])

    async def __call__(self, request: Request) -> dict[str, Any]:
        found = await self._predict(rows_of(await request.json()))
        return {"model_name": name_of(), "outputs": [outputs_of(found)]}


if __name__ == "__main__":
    port, folder = sys.argv[1:]
    serve_until_stopped(Small.bind(), int(port), folder, route_prefix=f"/v2/models/{name_of()}/infer")
