"""KServe's Python model server: `python -m benchmarks.peers.serve_kserve PORT`"""

import sys
from typing import Any

from kserve import InferOutput, InferRequest, InferResponse, ModelServer
from kserve import Model as Served

from benchmarks.peers.serve_onnx import Model, name_of


class Small(Served):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(name_of())
        self._model = Model()
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any) -> InferResponse:
        found = self._model(payload.inputs[0].as_numpy())
        output = InferOutput("predict", list(found.shape), "FP32")
        output.set_data_from_numpy(found, binary_data=False)
        return InferResponse(response_id=payload.id or "", model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    ModelServer(http_port=int(sys.argv[1]), enable_grpc=False, workers=1, access_log_format=None).start([Small()])
