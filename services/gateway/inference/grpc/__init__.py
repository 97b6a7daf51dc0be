"""The Open Inference Protocol over gRPC: the service `inference.GRPCInferenceService` on a port of its own."""
