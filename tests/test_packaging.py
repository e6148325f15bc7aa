"""What is released: one version everywhere, a wheel with every file, which runs in an empty folder on the oldest and the newest Python."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import jaxinfl

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(*command, cwd=ROOT, **environment):
    """Run a command outside of the checkout's environment; returns its standard output, and shows all of it where it fails."""
    own = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [*map(str, command)], check=False, cwd=cwd, env=own | environment, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_is_one_version():
    assert jaxinfl.__version__ == PROJECT["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == PROJECT["version"]
    newest = next(line for line in (ROOT / "CHANGELOG.md").read_text().splitlines() if line.startswith("## "))
    assert newest.split()[1] == PROJECT["version"]


def test_the_release_is_published_by_nothing_but_trusted_publishing():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    workflow = yaml.safe_load(text)
    jobs = workflow["jobs"]
    # YAML 1.1 takes the key "on" for true.
    assert workflow[True] == {"push": {"tags": ["v*"]}}
    allowed = {name for name, job in jobs.items() if job.get("permissions", {}).get("id-token") == "write"}
    assert allowed == {"publish"} and workflow["permissions"] == {"contents": "read"}
    assert set(jobs["publish"]["needs"]) == {"check", "test"} and jobs["publish"]["environment"] == "pypi"
    assert "secrets." not in text and "password" not in text.split("name: release")[1]


def test_every_extra_is_listed_in_the_readme():
    readme = (ROOT / "README.md").read_text()
    for extra in PROJECT["optional-dependencies"]:
        assert f"| `{extra}` |" in readme, extra


def test_the_default_paths_import_every_dependency():
    """Every dependency that is no extra is imported by the package itself."""
    modules = {
        "scikit-learn": "sklearn",
        "pillow": "PIL",
        "lazy-loader": "lazy_loader",
        "vl-convert-python": "vl_convert",
    }
    sources = "\n".join(path.read_text() for path in [*(ROOT / "jaxinfl").rglob("*.py"), ROOT / "jaxinfl_command.py"])
    for requirement in PROJECT["dependencies"]:
        name = requirement.split(">")[0]
        module = modules.get(name, name)
        assert f"import {module}" in sources or f"from {module}" in sources, name
    extras = {requirement.split(">")[0] for requirement in PROJECT["optional-dependencies"]["tfds"]}
    assert not extras & {requirement.split(">")[0] for requirement in PROJECT["dependencies"]}


CHILD = """
import sys
import numpy as np
for name in ("tensorflow_datasets", "array_record", "importlib_resources", "requests", "ipywidgets"):
    sys.modules[name] = None
import jaxinfl
np.savez("data.npz", x_train=np.zeros((4, 2)), y_train=[0, 1] * 2, x_test=np.zeros((2, 2)), y_test=[0, 1])
for name in ("digits", "breast_cancer", "python_topics", "data.npz"):
    assert jaxinfl.load_dataset(name)._repr_html_()
try:
    jaxinfl.load_dataset("cifar100")
except jaxinfl.DatasetUnavailable as error:
    assert "pip install 'jaxinfl[tfds]'" in str(error)
else:
    raise AssertionError
"""


def test_nothing_but_its_own_data_sets_needs_tfds(tmp_path):
    subprocess.run([sys.executable, "-c", CHILD], check=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})


# --- the wheel -------------------------------------------------------------------------------------------------------


def committed_files() -> list[str]:
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard").splitlines()
    return [name for name in listed if (ROOT / name).is_file()]


def find_python(version: str) -> str | None:
    """The interpreter of a version of Python, on the path or among those that pyenv installed."""
    places = [f"python{version}", *Path.home().glob(f".pyenv/versions/{version}*/bin/python")]
    for place in places:
        found = shutil.which(str(place))
        if found and subprocess.run([found, "-c", ""], check=False, capture_output=True).returncode == 0:
            return found
    return None


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel of the files of the checkout, without what earlier builds left there."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in committed_files():
        if not name.startswith("tests/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", built, source)
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="module", params=["3.11", "3.13"])
def installed(request, wheel, tmp_path_factory):
    """A version of Python and the commands of a virtual environment that has it, the wheel, and nothing but what the wheel needs.

    An environment takes 1 GB, so there is one at a time, without the compiled files of modules that nothing imports.
    """
    version = request.param
    python = find_python(version)
    if python is None:
        pytest.skip(f"Python {version} is not installed here")
    folder = tmp_path_factory.mktemp("environment")
    run(python, "-m", "venv", folder)
    pip = (folder / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--no-compile", "--constraint", ROOT / "constraints.txt", wheel)
    run(*pip, "check")
    yield version, folder / "bin"
    shutil.rmtree(folder)


@pytest.mark.slow
def test_the_wheel_has_every_file_of_the_package(wheel):
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {name for name in committed_files() if name.startswith("jaxinfl/")} | {"jaxinfl_command.py"}
    assert packed == wanted


@pytest.mark.slow
def test_types_hold_with_the_libraries_of_each_python(installed, tmp_path):
    """The oldest Python that is taken and the newest that is tested have other releases of JAX, with other types."""
    version, commands = installed
    of_version = ("--python-version", version, "--python-executable", commands / "python", "--cache-dir", tmp_path)
    run(sys.executable, "-m", "mypy", *of_version)


@pytest.mark.slow
def test_the_wheel_runs_in_an_empty_folder(installed, tmp_path):
    _, commands = installed
    jaxinfl_ = commands / "jaxinfl"
    assert run(jaxinfl_, "--version", cwd=tmp_path) == f"jaxinfl {PROJECT['version']}\n"
    assert "subcommands" in run(jaxinfl_, "--help", cwd=tmp_path)
    place = run(commands / "python", "-c", "import jaxinfl; print(jaxinfl.__file__)", cwd=tmp_path)
    assert Path(place).is_relative_to(commands.parent)
    trained = json.loads(run(jaxinfl_, "train", "digits", "--models", "60", "--out", "runs/a", "--json", cwd=tmp_path))
    assert trained["models"] == 60 and trained["mean_test_score"] > 0.9
    answers = {
        command: json.loads(run(jaxinfl_, command, "runs/a", "--json", cwd=tmp_path))
        for command in ("influence", "pairs", "plan", "verify", "membership", "read")
    }
    assert answers["pairs"]["pairs"][0]["influence"] > 0.25 and answers["verify"]["files"] == []
    assert answers["read"]["data"] == "digits" and answers["plan"]["pilot_models"] == 60
    # A run of another version of Python and JAX, which is committed.
    stored = json.loads(
        run(jaxinfl_, "read", ROOT / "tests" / "runs" / "classification_images", "--json", cwd=tmp_path)
    )
    assert stored["models"] == 6
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
