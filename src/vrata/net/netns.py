"""Work inside another network namespace without another process: setns(2) on a thread of its own.

The thread ends with the work, so that nothing else ever runs in the wrong namespace; sockets it makes stay there, and
so do the processes that it starts.
"""

import ctypes
import os
import threading
from collections.abc import Callable
from typing import TypeVar

from vrata.net.command import NETNS_DIR

T = TypeVar("T")
_CLONE_NEWNET = 0x40000000


def enter(netns: str) -> None:
    """Move the calling thread, and only it, into the namespace; OSError if it can not be."""
    descriptor = os.open(NETNS_DIR / netns, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(descriptor, _CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"setns to {netns}")
    finally:
        os.close(descriptor)


def in_namespace(netns: str | None, work: Callable[[], T]) -> T:
    """Run short, blocking `work` inside the namespace (None: this one's) and return (or raise) what it does."""
    results: list[T] = []
    errors: list[BaseException] = []

    def enter_and_work() -> None:
        try:
            if netns is not None:
                enter(netns)
            results.append(work())
        except BaseException as error:  # noqa: BLE001  # raised again below, in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=enter_and_work)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]
