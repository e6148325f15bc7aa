"""Compilation of whole functions in tests: operation by operation, each would be compiled in dozens of parts."""

from collections.abc import Callable
from typing import Any

import jax


def compile_whole(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function as one program, with little optimization: it runs once, and compiling takes all of the time.

    Args:
      function: a function that `jax.jit` takes.
      options: further arguments of `jax.jit`, such as `static_argnums`.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)
