"""Run folders: everything a run leaves behind, written whole or not at all."""

from ._folder import RunFolder, RunFolderError

__all__ = ["RunFolder", "RunFolderError"]
