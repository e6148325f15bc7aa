"""Statistics on plain arrays."""

from jaxinfl.statistics.agreement import agreement

__all__ = ["agreement"]
