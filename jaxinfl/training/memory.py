"""Running out of memory: how it is told from other failures."""


class OutOfMemory(RuntimeError):
    """Device or host cannot hold even one model at a time."""


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a device or on the host."""
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


__all__ = ["OutOfMemory", "out_of_memory"]
