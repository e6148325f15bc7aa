"""Sizes and times, formatted for people."""

import math
from collections.abc import Sequence


def format_seconds(seconds: float) -> str:
    """Format a time in seconds, such as 12 s, 3 min 20 s or 5 h 12 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def format_bytes(size: float) -> str:
    """Format a number of bytes in decimal units, such as 1.2 GB."""
    return format_amount(size, ("bytes", "kB", "MB", "GB", "TB"))


def format_amount(value: float, units: Sequence[str] = ("", "k", "M", "G", "T", "P", "E")) -> str:
    """Format a number of three digits in the unit that fits, such as 30 T; each unit is a thousand of the one before."""
    power = min(int(math.log10(max(value, 1)) // 3), len(units) - 1)
    return f"{value / 1000**power:.3g} {units[power]}".rstrip()


__all__ = ["format_amount", "format_bytes", "format_seconds"]
