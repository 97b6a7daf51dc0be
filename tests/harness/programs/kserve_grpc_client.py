"""Calls an inference server by KServe's own client, over gRPC, in an environment that has it: `kserve_grpc_client.py
<host:port>`.

Exits with an error where an answer is not the expected one. The server has the model `doubler` of the harness.
"""

import asyncio
import sys

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.grpc import grpc_predict_v2_pb2 as messages
from kserve.protocol.grpc.grpc_predict_v2_pb2_grpc import GRPCInferenceServiceStub


async def main(address: str) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready("doubler")
        assert not await client.is_model_ready("nobody")
        for binary in (False, True):
            given = InferInput("x", list(rows.shape), "FP32")
            given.set_data_from_numpy(rows, binary_data=binary)
            answered = await client.infer(InferRequest("doubler", [given], request_id="7"))
            assert answered.id == "7", answered.id
            np.testing.assert_allclose(answered.outputs[0].as_numpy(), rows * 3)
    async with grpc.aio.insecure_channel(address) as channel:
        stub = GRPCInferenceServiceStub(channel)
        loaded = await stub.RepositoryModelLoad(messages.RepositoryModelLoadRequest(model_name="doubler"))
        assert (loaded.model_name, loaded.isLoaded) == ("doubler", True), loaded
        unloaded = await stub.RepositoryModelUnload(messages.RepositoryModelUnloadRequest(model_name="doubler"))
        assert (unloaded.model_name, unloaded.isUnloaded) == ("doubler", True), unloaded


asyncio.run(main(sys.argv[1]))
