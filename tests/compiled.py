"""Functions that tests compile whole: operation by operation, each would be compiled in dozens of parts."""

from collections.abc import Callable
from typing import Any

import jax


def compiled(function: Callable[..., Any], **options: Any) -> Any:
    """The function compiled as one program, with little optimization: it runs once, and compiling takes all of the time.

    Args:
      function: what `jax.jit` takes.
      options: further arguments of `jax.jit`, `static_argnums` for example.
    """
    return jax.jit(function, compiler_options={"xla_backend_optimization_level": 0}, **options)
