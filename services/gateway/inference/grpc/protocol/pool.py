"""Classes of messages from compiled files."""

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

__all__ = ["load_messages"]


def load_messages(name: str) -> dict[str, type[Message]]:
    """The messages of a file of this folder, by their names.

    They are in a pool of their own: a process that has a client of KServe or Triton has other messages of these names
    in the common one.
    """
    (described,) = FileDescriptorSet.FromString(Path(__file__).with_name(f"{name}.binpb").read_bytes()).file
    pool = DescriptorPool()
    pool.AddSerializedFile(described.SerializeToString())
    file = pool.FindFileByName(described.name)
    return {message: GetMessageClass(descriptor) for message, descriptor in file.message_types_by_name.items()}
