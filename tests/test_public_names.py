"""What `import jaxinfl` gives: one list of public names, of which the statistics are imported when they are first used."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import jaxinfl

STUB = ast.parse(Path(jaxinfl.__file__).with_suffix(".pyi").read_text())


def test_the_stub_is_the_list():
    names = [alias for node in STUB.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    # A type checker takes a name of a stub for public only if it is imported under its own name.
    assert all(alias.name == alias.asname for alias in names)
    assert sorted(alias.name for alias in names) == jaxinfl.__all__
    for node in (node for node in STUB.body if isinstance(node, ast.ImportFrom)):
        package = importlib.import_module(f"jaxinfl.{node.module}" if node.module else "jaxinfl")
        for alias in node.names:
            assert getattr(jaxinfl, alias.name) is getattr(package, alias.name)


def test_names_show_and_unknown_ones_are_refused():
    assert set(jaxinfl.__all__) <= set(dir(jaxinfl))
    with pytest.raises(AttributeError, match="foo"):
        _ = jaxinfl.foo


CHILD = """
import sys
import jaxinfl
slow = {"scipy.stats", "scipy.special", "sklearn", "matplotlib", "jinja2", "jaxinfl.statistics"}
assert not slow & set(sys.modules), slow & set(sys.modules)
assert {"jaxinfl.datasets", "jaxinfl.influence", "jaxinfl.models", "jaxinfl.store", "jaxinfl.training"} <= set(sys.modules)
assert "plan" in dir(jaxinfl) and callable(jaxinfl.influence) and jaxinfl.models.REGISTRY
import jaxinfl.influence.tiles
assert callable(jaxinfl.influence)  # the function, not the package of its name
jaxinfl.plan
assert "jaxinfl.statistics" in sys.modules and "plan" in vars(jaxinfl)
from jaxinfl import *
assert set(jaxinfl.__all__) <= set(globals()) and influence is jaxinfl.influence
"""


def test_importing_jaxinfl_imports_no_statistics():
    subprocess.run([sys.executable, "-c", CHILD], check=True)
