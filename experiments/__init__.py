"""One file per claim of the paper; run as `python -m experiments.NAME`."""
