"""Influence of training examples on predictions, from hundreds of small models trained at once on random subsets."""

import lazy_loader

from jaxinfl.devices import use_every_core

use_every_core()

# `__init__.pyi` is the one list of what is public and where it comes from. Type checkers read it, and so does this line:
# each name is imported when it is first asked for. SciPy, which the statistics need, takes half a second to import, and
# training needs none of it.
__getattr__, _, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Everything but the statistics is loaded at once.
from jaxinfl import influence as influence
from jaxinfl import training as training


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
