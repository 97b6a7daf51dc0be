"""The messages of the protocol, and of gRPC's health checks. `make proto` compiles the files `*.proto`."""
