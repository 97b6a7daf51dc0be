"""Calls an inference server by KServe's own client, over REST, in an environment that has it: `kserve_client.py <url>`.

Exits with an error where an answer is not the expected one. The server has the model `doubler` of the harness.
"""

import asyncio
import sys

import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(url: str) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
        assert await client.is_server_live(url)
        assert await client.is_server_ready(url)
        assert await client.is_model_ready(url, "doubler")
        assert not await client.is_model_ready(url, "nobody")
        for binary in (False, True):
            given = InferInput("x", list(rows.shape), "FP32")
            given.set_data_from_numpy(rows, binary_data=binary)
            asked = InferRequest("doubler", [given], request_id="7", parameters={"binary_data_output": binary})
            answered = await client.infer(url, asked, model_name="doubler")
            assert answered.id == "7", answered.id
            np.testing.assert_allclose(answered.outputs[0].as_numpy(), rows * 3)
    async with InferenceRESTClient(RESTConfig(protocol="v1", timeout=60)) as client:
        answered = await client.infer(url, {"instances": rows.tolist()}, model_name="doubler")
        assert answered == {"predictions": (rows * 3).tolist()}, answered


asyncio.run(main(sys.argv[1]))
