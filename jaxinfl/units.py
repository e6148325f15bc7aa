"""Sizes and times, formatted for people."""

import math


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
    power = min(int(math.log(max(size, 1), 1000)), 4)
    return f"{size / 1000**power:.3g} {('bytes', 'kB', 'MB', 'GB', 'TB')[power]}"


__all__ = ["format_bytes", "format_seconds"]
