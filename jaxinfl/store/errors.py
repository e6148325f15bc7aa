"""The error of everything that is wrong with a run directory."""


class RunDirectoryError(RuntimeError):
    """A run directory that is damaged, foreign, or belongs to another run."""
