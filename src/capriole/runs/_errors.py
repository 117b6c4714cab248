"""What can be wrong with a run folder."""


class RunFolderError(OSError):
    """The folder cannot be created, read or written, is in use, damaged, or already holds another
    run.
    """
