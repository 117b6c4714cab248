"""A lock on a folder: one process at a time. The operating system lets go of it when its process dies."""

import os
from pathlib import Path
from typing import IO

from ._errors import RunFolderError


class FolderLock:
    """Holds ``folder/lock`` from construction to `close` (or the death of the process, however it died).

    An advisory ``flock``: nothing is left to clean up after a crash. The file names the last holder, for the message.
    Raises `RunFolderError` if another process, or another object of this one, holds it.
    """

    def __init__(self, folder: Path):
        self._file: IO[str] | None = None
        try:
            import fcntl
        except ImportError:  # not POSIX: no lock
            return
        path = folder / "lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK, 0o644)
        file = os.fdopen(descriptor, "r+", encoding="utf-8", errors="replace")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = file.read(20).strip()
            file.close()
            raise RunFolderError(
                f"{folder} is in use by process {holder or 'unknown'}; wait for it, or stop it with Ctrl-C"
            ) from error
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    def close(self) -> None:
        """Let go."""
        if self._file is not None:
            self._file.close()
            self._file = None
