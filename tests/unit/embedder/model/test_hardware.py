"""What a machine computes with, told from its files."""

import platform
import sys
from pathlib import Path

import pytest

from services.embedder.model import hardware
from services.embedder.model.hardware import Device, choose_device, may_have_gpu


@pytest.mark.parametrize("file", ["nvidiactl", "nvidia0", "kfd", "dxg"])
def test_a_driver_of_gpus_shows_in_dev(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: str) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert not may_have_gpu(tmp_path)

    (tmp_path / file).touch()
    assert may_have_gpu(tmp_path)


def test_elsewhere_than_on_linux_pytorch_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Darwin")

    assert may_have_gpu(tmp_path)


@pytest.mark.parametrize(("installed", "gpu"), [(False, True), (True, False)])
def test_the_device_is_the_cpu_without_pytorch_or_without_a_gpu_and_pytorch_is_not_loaded(
    monkeypatch: pytest.MonkeyPatch, installed: bool, gpu: bool
) -> None:
    monkeypatch.setattr(hardware, "torch_installed", lambda: installed)
    monkeypatch.setattr(hardware, "may_have_gpu", lambda: gpu)
    monkeypatch.setitem(sys.modules, "torch", None)  # an import of it fails

    assert choose_device(Device.AUTO) is Device.CPU
    assert choose_device(Device.CUDA) is Device.CUDA
