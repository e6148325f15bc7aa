"""Models per hour and the cost of the kernels, beside what people use instead; run as `python -m benchmarks.NAME`."""
