"""What this machine computes with: device, number format and threads."""

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

__all__ = ["Device", "Dtype", "choose_device", "choose_dtype", "usable_cpus"]

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


class Device(StrEnum):
    """Where a model runs; AUTO takes CUDA, then MPS, then the CPU."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


class Dtype(StrEnum):
    """The number format of weights and activations; AUTO is bfloat16 on CUDA and float32 elsewhere."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def choose_device(wanted: Device) -> Device:
    """Resolve AUTO; a device that was asked for by name is taken as it is."""
    import torch

    if wanted is not Device.AUTO:
        return wanted
    if torch.cuda.is_available():
        return Device.CUDA
    return Device.MPS if torch.backends.mps.is_available() else Device.CPU


def choose_dtype(wanted: Dtype, device: Device) -> "torch.dtype":
    """Resolve AUTO. The CPU keeps float32: its cosines are exact and the same on every machine."""
    import torch

    formats = {Dtype.FLOAT32: torch.float32, Dtype.BFLOAT16: torch.bfloat16, Dtype.FLOAT16: torch.float16}
    if wanted is not Dtype.AUTO:
        return formats[wanted]
    if device is not Device.CUDA:
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def usable_cpus(quota_file: Path = CPU_QUOTA) -> int:
    """CPUs this process may use, at least 1: its affinity, bounded by the container's quota (cgroup v2).

    PyTorch counts the CPUs of the node; with a container's limit below that, its threads fight for time.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = quota_file.read_text().split()
        return min(cpus, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup v2 here, or a quota of "max"
        return cpus
