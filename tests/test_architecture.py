"""The order of the stages: imports point only to the left of it."""

import ast
from pathlib import Path

import jaxinfl

# The first eight know nothing of the stages. The store knows nothing of training, which writes into it.
ORDER = [
    "arguments",
    "files",
    "undefined",
    "units",
    "notebook",
    "provenance",
    "devices",
    "compilation_cache",
    "tasks",
    "datasets",
    "subsets",
    "native",
    "models",
    "store",
    "training",
    "cluster",
    "verify",
    "influence",
    "statistics",
    "brittleness",
    "privacy",
    "published",
    "plots",
]
ORDER += ["report", "explore", "cli"]
ROOT = Path(jaxinfl.__file__).parent


def imports(path: Path) -> set[str]:
    """Full names that a file imports; `from a import b` counts as a.b, which may be a module."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def stage_imports(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("jaxinfl.")}


def files(stage: str) -> list[Path]:
    folder = ROOT / stage
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [ROOT / f"{stage}.py"]


def test_every_module_belongs_to_a_stage():
    names = {path.stem for path in ROOT.iterdir() if path.suffix == ".py" or (path.is_dir() and any(path.glob("*.py")))}
    assert names - {"__init__"} == set(ORDER)


def test_imports_point_to_the_left():
    for position, stage in enumerate(ORDER):
        for path in files(stage):
            wrong = stage_imports(path) & set(ORDER[position + 1 :])
            assert not wrong, f"{path} imports {wrong}, which come after {stage}"


def test_analysis_takes_arrays_only():
    for stage in ("influence", "statistics", "privacy", "plots"):
        for path in files(stage):
            assert not stage_imports(path) & {"training", "store", "datasets", "models", "report"}, path
            assert not {name.split(".")[0] for name in imports(path)} & {"pathlib", "zarr", "os"}, path


def test_statistics_is_numpy_scipy_and_scikit_learn_only():
    allowed = {
        "numpy",
        "scipy",
        "sklearn",
        "jaxtyping",
        "jaxinfl",
        "dataclasses",
        "typing",
        "collections",
        "math",
        "numbers",
        "functools",
    }
    for path in [*files("statistics"), *files("privacy")]:
        used = {name.split(".")[0] for name in imports(path) if not name.startswith("jax.typing")}
        assert used <= allowed, f"{path}: {used - allowed}"


def test_flax_stays_inside_models():
    for stage in set(ORDER) - {"models"}:
        for path in files(stage):
            assert not any(name.startswith("flax") for name in imports(path)), path


def test_nothing_imports_the_experiments():
    for path in ROOT.rglob("*.py"):
        assert not any(name.startswith("experiments") for name in imports(path)), path


def test_modules_and_functions_stay_small():
    folders = [ROOT, *(ROOT.parent / name for name in ("experiments", "benchmarks", "tests"))]
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        text = path.read_text()
        assert text.count("\n") <= 400, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                length = node.end_lineno - node.lineno + 1 - len((ast.get_docstring(node) or "").splitlines())
                assert length <= 50, f"{path}: {node.name} has {length} lines"
