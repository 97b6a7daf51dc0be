"""Compiles the protocol's files: `python -m tests.harness.protocol` writes what the gateway loads, and its types."""

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.harness.paths import ROOT

__all__ = ["PROTOCOL", "compiled"]

PROTOCOL = ROOT / "services/gateway/inference/grpc/protocol"


def compiled() -> Mapping[str, bytes]:
    """What the compiler of grpcio-tools makes of each file, by the names of the files that are written."""
    from grpc_tools import protoc

    with TemporaryDirectory() as folder:
        for source in sorted(PROTOCOL.glob("*.proto")):
            arguments = [
                "protoc",
                f"--proto_path={PROTOCOL}",
                f"--descriptor_set_out={folder}/{source.stem}.binpb",
                f"--pyi_out={folder}",
                source.name,
            ]
            if protoc.main(arguments):
                raise SystemExit(f"{source} cannot be compiled")
        return {file.name: file.read_bytes() for file in sorted(Path(folder).iterdir())}


if __name__ == "__main__":
    for name, content in compiled().items():
        (PROTOCOL / name).write_bytes(content)
        sys.stdout.write(f"{PROTOCOL / name}\n")
