"""The messages of `inference.proto`; `inference_pb2.pyi` has their types."""

from services.gateway.inference.grpc.protocol.pool import load_messages

globals().update(load_messages("inference"))
