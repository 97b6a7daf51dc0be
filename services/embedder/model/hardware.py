"""What this machine computes with: device, backend, number format and threads."""

import os
import platform
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path

__all__ = [
    "Backend",
    "Device",
    "Dtype",
    "choose_device",
    "choose_dtype",
    "may_have_gpu",
    "native_bfloat16",
    "torch_installed",
    "usable_cpus",
    "x86",
]

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
CPU_FLAGS = Path("/proc/cpuinfo")
GPU_FILES = ("nvidiactl", "nvidia0", "kfd", "dxg")
"""Of /dev: NVIDIA's driver, AMD's, and Windows' for Linux within it."""


class Device(StrEnum):
    """Where a model runs; AUTO takes CUDA, then MPS, where PyTorch is installed, then the CPU."""

    AUTO = "auto"
    CUDA = "cuda"
    MPS = "mps"
    CPU = "cpu"


class Backend(StrEnum):
    """What computes the model. AUTO is OpenVINO on x86 CPUs, where it is there and gives the same vectors, and on any
    CPU without PyTorch."""

    AUTO = "auto"
    TORCH = "torch"
    OPENVINO = "openvino"


class Dtype(StrEnum):
    """The number format of weights and activations; AUTO is bfloat16 where the device computes it, else float32."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"


def choose_device(wanted: Device) -> Device:
    """Resolve AUTO; a device that was asked for by name is taken as it is."""
    if wanted is not Device.AUTO:
        return wanted
    if not torch_installed() or not may_have_gpu():  # a look at files: the import of PyTorch takes seconds
        return Device.CPU
    import torch

    if torch.cuda.is_available():
        return Device.CUDA
    return Device.MPS if torch.backends.mps.is_available() else Device.CPU


def torch_installed() -> bool:
    return find_spec("torch") is not None and find_spec("sentence_transformers") is not None


def may_have_gpu(devices: Path = Path("/dev")) -> bool:
    """False where PyTorch would surely find none; a system that is not Linux is not looked at."""
    return platform.system() != "Linux" or any((devices / name).exists() for name in GPU_FILES)


def choose_dtype(wanted: Dtype, device: Device) -> Dtype:
    """Resolve AUTO.

    A CPU that computes bfloat16 is 1.6 to 3 times as fast with it, at cosines to float32 of 0.9999; one that has to
    emulate it is slower.
    """
    if wanted is not Dtype.AUTO:
        return wanted
    if device is Device.CPU:
        return Dtype.BFLOAT16 if native_bfloat16() else Dtype.FLOAT32
    if device is not Device.CUDA:
        return Dtype.FLOAT32
    import torch

    return Dtype.BFLOAT16 if torch.cuda.is_bf16_supported() else Dtype.FLOAT16


def native_bfloat16(flags_file: Path = CPU_FLAGS) -> bool:
    """Whether the CPU multiplies bfloat16 itself, by AVX-512 or AMX."""
    try:
        flags = next(line for line in flags_file.read_text().splitlines() if line.startswith("flags")).split()
    except (OSError, StopIteration):  # not Linux, or not x86
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


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
