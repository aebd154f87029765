"""Which pages of this process's memory were written, asked of the Linux kernel (6.7 and later).

userfaultfd in write-protect ASYNC mode marks pages as they are written; the PAGEMAP_SCAN ioctl tells the marked ones and
clears the marks, page by page in one step (Documentation/admin-guide/mm/userfaultfd.rst and pagemap.rst of the kernel).

Guarantees: a page that was written since the scan before, by Python, by a library, by the kernel on behalf of a system
call, in any thread, is told. Whatever is in doubt is told as None, "anything may have changed": memory that was mapped
anew, moved or shared; a page that the kernel gave back; a device that may write to memory by itself; a forked child.
docs/decisions/0040 has the reasons.
"""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import weakref

from ckpt.staging.ranges import Ranges, union

PAGE = os.sysconf("SC_PAGESIZE")

_SYSCALL = {"x86_64": 323, "aarch64": 282}
_USER_MODE_ONLY = 1
_API = 0xAA
_FEATURES = 1 << 13 | 1 << 15  # WP_UNPOPULATED: pages that are not there yet, too; WP_ASYNC: the kernel clears the marks
_UFFDIO_API, _UFFDIO_REGISTER, _UFFDIO_WRITEPROTECT = 0xC018AA3F, 0xC020AA00, 0xC018AA06
_UFFDIO_UNREGISTER = 0x8010AA01
_MODE_WP = 2
_WP_ON = 1

_PAGEMAP_SCAN = 0xC0606610
_WP_MATCHING, _CHECK_WPASYNC = 1, 2
_WRITTEN, _PRESENT, _SWAPPED = 1 << 1, 1 << 3, 1 << 4
_SCAN_ROOM = 1 << 14  # ranges told by one call

_DEVICES = ("libcuda.so.1", "libamdhip64.so", "libhsa-runtime64.so.1")
"""Drivers that may have memory written by a device, which marks no page."""


class _Scan(ctypes.Structure):
    """``struct pm_scan_arg`` of linux/fs.h."""

    _fields_ = tuple(
        (name, ctypes.c_uint64)
        for name in (
            "size", "flags", "start", "end", "walk_end", "vec", "vec_len",
            "max_pages", "category_inverted", "category_mask", "category_anyof_mask", "return_mask",
        )
    )  # fmt: skip


_system = ctypes.CDLL(None, use_errno=True)
_ioctl = _system.ioctl
_ioctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_void_p)


class WrittenPages:
    """The written pages of ranges of memory. Not thread-safe, and of no use in a forked child (``usable``)."""

    def __init__(self) -> None:
        """OSError where the kernel has no such thing, or does not give it to this process."""
        if sys.platform != "linux" or platform.machine() not in _SYSCALL:
            raise OSError("no userfaultfd")
        self._pid = os.getpid()
        self._private: list[tuple[int, int]] | None = None
        fd = int(_system.syscall(_SYSCALL[platform.machine()], _USER_MODE_ONLY | os.O_CLOEXEC))
        if fd < 0:
            raise OSError(ctypes.get_errno(), "no userfaultfd")
        self._fd = fd
        # Closing ends all marks. In a forked child it closes a second handle of the parent's, which changes nothing.
        self._finalizer = weakref.finalize(self, os.close, fd)
        if self._control(_UFFDIO_API, _API, _FEATURES, 0):
            self.close()
            raise OSError("no asynchronous write protection")
        self._pagemap = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
        self._finalizer_map = weakref.finalize(self, os.close, self._pagemap)
        self._found = (ctypes.c_uint64 * (3 * _SCAN_ROOM))()

    def close(self) -> None:
        """End all marks. A second call does nothing."""
        self._finalizer()
        if hasattr(self, "_finalizer_map"):
            self._finalizer_map()

    def usable(self) -> bool:
        """Whether what the kernel tells is to be believed now, in this process. To be asked at each safe point."""
        self._private = None
        return os.getpid() == self._pid and not _device_may_write()

    def watch(self, start: int, stop: int) -> bool:
        """Begin to mark the pages of ``[start, stop)``, both multiples of ``PAGE``, from now on.

        False, and nothing is marked, for memory that others may write through mappings of their own, and where the
        kernel refuses.
        """
        if self._private is None:
            self._private = _private_anonymous()
        if not any(first <= start and stop <= last for first, last in self._private):
            return False
        if self._control(_UFFDIO_REGISTER, start, stop - start, _MODE_WP, 0):
            return False
        if self._control(_UFFDIO_WRITEPROTECT, start, stop - start, _WP_ON):
            self.unwatch(start, stop)
            return False
        return True

    def unwatch(self, start: int, stop: int) -> None:
        """Do not mark the pages of ``[start, stop)`` any more, whatever is there now."""
        # An error means that there is nothing left to end: the memory was unmapped meanwhile.
        self._control(_UFFDIO_UNREGISTER, start, stop - start)

    def written(self, start: int, stop: int) -> Ranges | None:
        """The parts of ``[start, stop)`` that were written since they were asked for last; None: all of it may have been."""
        written = self._scan(start, stop, _WP_MATCHING | _CHECK_WPASYNC, _WRITTEN, 0)
        if written is None:
            return None
        # A page that is neither in memory nor in swap was given back to the kernel (MADV_DONTNEED): it reads as zeros,
        # and is not told as written where its whole page table is gone.
        gone = self._scan(start, stop, 0, _PRESENT | _SWAPPED, _PRESENT | _SWAPPED)
        return None if gone is None else union(written, gone)

    def _control(self, request: int, *words: int) -> bool:
        """Whether the call failed."""
        argument = (ctypes.c_uint64 * len(words))(*words)
        return bool(_ioctl(self._fd, request, ctypes.addressof(argument)))

    def _scan(self, start: int, stop: int, flags: int, mask: int, inverted: int) -> Ranges | None:
        found: list[tuple[int, int]] = []
        calls, at = 0, start
        while at < stop:
            scan = _Scan(
                ctypes.sizeof(_Scan), flags, at, stop, 0, ctypes.addressof(self._found), _SCAN_ROOM,
                0, inverted, mask, 0, mask,
            )  # fmt: skip
            count = _ioctl(self._pagemap, _PAGEMAP_SCAN, ctypes.addressof(scan))
            if count < 0 or scan.walk_end <= at:
                return None
            numbers = memoryview(self._found).cast("B").cast("Q")[: 3 * count].tolist()
            found += zip(numbers[::3], numbers[1::3], strict=True)
            calls, at = calls + 1, scan.walk_end
        return union(found) if calls > 1 else tuple(found)  # within a call the kernel has put together what touches


def _private_anonymous() -> list[tuple[int, int]]:
    """Memory that nobody but this process can write, and only through these addresses."""
    found: list[tuple[int, int]] = []
    with open("/proc/self/maps") as maps:
        for line in maps:
            addresses, permissions, _offset, _device, inode, *_ = line.split()
            if permissions[3] == "p" and inode == "0":
                first, _, last = addresses.partition("-")
                found.append((int(first, 16), int(last, 16)))
    return list(union(found))


def _device_may_write() -> bool:
    """Whether memory may be written without the processor's page tables: by a GPU, or pinned for other devices."""
    for name in _DEVICES:
        try:
            ctypes.CDLL(name, mode=os.RTLD_NOLOAD)
        except OSError:
            continue
        return True
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith("VmPin:"):
                return line.split()[1] != "0"
    return True
