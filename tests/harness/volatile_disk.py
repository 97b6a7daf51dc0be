"""A disk whose power can fail: an ext4 file system that is shut down at one moment, as it is on its device.

After `cut` the device holds what the kernel has written to it so far: everything that was synced, and of the rest what
the writeback and the journal happened to reach. That is the ioctl EXT4_IOC_SHUTDOWN without a flush of the journal, by
which xfstests checks file systems; so the order of names and contents is that of a real one. The device itself keeps
what it was given: a drive that loses its own cache in spite of a flush is not simulated.
"""

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

__all__ = ["USUAL", "VolatileDisk", "next_boot", "volatile_disk"]

EXT4_IOC_SHUTDOWN: Final = 0x8004587D
NO_LOG_FLUSH: Final = struct.pack("=I", 2)

BOOT: Final = """
mount --bind "$0" /proc/sys/kernel/random/boot_id || exit
while read -r device folder _; do
    case $device in /dev/loop*) [ "$folder" = "$1" ] || umount --lazy "$folder" ;; esac
done < /proc/self/mounts
shift
exec "$@"
"""

USUAL: Final = "noatime"
PATIENCE: Final = 10.0


class VolatileDisk:
    """A file system of a few hundred megabytes in memory, at `folder` while it is mounted."""

    def __init__(self, folder: Path, megabytes: int) -> None:
        self.folder = folder
        self._megabytes = megabytes
        self._memory = folder.with_name(f"{folder.name}.device")
        self._device = ""

    def make(self) -> None:
        """Raises OSError or CalledProcessError where this user may not mount anything, and then leaves nothing."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._memory.mkdir()
        with ExitStack() as undo:
            undo.callback(self._memory.rmdir)
            _run("mount", "-t", "tmpfs", "-o", f"size={self._megabytes + 8}m", "tmpfs", self._memory)
            undo.callback(_run, "umount", "--lazy", self._memory)
            image = self._memory / "image"
            with image.open("wb") as file:
                file.truncate(self._megabytes * 2**20)
            _run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
            self._device = _run("losetup", "--find", "--show", image).strip()
            undo.callback(_run, "losetup", "--detach", self._device)
            self.mount()
            undo.pop_all()

    def remove(self) -> None:
        with suppress(subprocess.CalledProcessError):
            self.unmount()
        _run("losetup", "--detach", self._device)
        _run("umount", "--lazy", self._memory)
        self._memory.rmdir()

    def mount(self, options: str = USUAL) -> None:
        _run("mount", "-t", "ext4", "-o", options, self._device, self.folder)

    def unmount(self) -> None:
        _run("umount", self.folder)

    def cut(self) -> None:
        """The power fails. Everything that has the file system open gets errors from now on."""
        opened = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(opened, EXT4_IOC_SHUTDOWN, NO_LOG_FLUSH)
        finally:
            os.close(opened)

    def restore(self, options: str = USUAL) -> None:
        """Mount the file system again. Everything that had it open must have ended."""
        self.unmount()
        give_up = time.monotonic() + PATIENCE
        while True:
            self.mount(options)
            if self._writable():
                return
            # Something that has just been killed still holds the old file system.
            self.unmount()
            assert time.monotonic() < give_up, "the disk is still in use"
            time.sleep(0.05)

    def _writable(self) -> bool:
        probe = self.folder / ".probe"
        try:
            probe.write_bytes(b"x")
            probe.unlink()
        except OSError:
            return False
        return True


@contextmanager
def volatile_disk(folder: Path, megabytes: int) -> Iterator[VolatileDisk]:
    """Mount one, or skip the test where this user may not mount anything."""
    disk = VolatileDisk(folder, megabytes)
    try:
        disk.make()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this user may not mount a file system: {error}")
    try:
        yield disk
    finally:
        disk.remove()


def next_boot(number: int, folder: Path, disk: VolatileDisk) -> Sequence[str]:
    """Words before a command, for which the machine has then been started another time: it has another boot id.

    Of all such disks the command sees only the given one. Otherwise it would keep those of tests beside it in use.
    """
    file = folder / f"boot-{number}"
    file.write_text(f"00000000-0000-4000-8000-{number:012}\n")
    return ("unshare", "--mount", "sh", "-c", BOOT, str(file), str(disk.folder))


def _run(*command: str | Path) -> str:
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
