"""A lock on a folder: one process at a time. The operating system lets go of it when its process
dies.
"""

import os
from pathlib import Path

from ._errors import RunFolderError


class FolderLock:
    """Holds ``folder/lock`` from construction to `close` (or the death of the process, however it
    died).

    An advisory ``flock``: nothing is left to clean up after a crash. The file names the last
    holder, for the message. Raises `RunFolderError` if another process, or another object of this
    one, holds it.
    """

    def __init__(self, folder: Path):
        self._descriptor: int | None = None
        try:
            import fcntl
        except ImportError:  # not POSIX: no lock
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(folder / "lock", flags, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise RunFolderError(
                f"{folder} is in use by process {holder or 'unknown'}; wait for it, or stop it "
                "with Ctrl-C"
            ) from error
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def close(self) -> None:
        """Let go."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __del__(self) -> None:
        self.close()
