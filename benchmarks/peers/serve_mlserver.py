"""MLServer's runtime for the model, named by its `model-settings.json`."""

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse

from benchmarks.peers.serve_onnx import Model

__all__ = ["Small"]


class Small(MLModel):  # type: ignore[misc]
    async def load(self) -> bool:
        self._model = Model()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self._model(NumpyCodec.decode_input(payload.inputs[0]))
        output = NumpyCodec.encode_output("predict", found)
        return InferenceResponse(model_name=self.name, outputs=[output])
