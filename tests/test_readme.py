"""What the README says can be typed."""

import re
from pathlib import Path

import jaxinfl

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_script_runs(tmp_path, monkeypatch):
    (script,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "400" in script and script.count("\n") <= 15
    monkeypatch.chdir(tmp_path)
    exec(script.replace("400", "60"), {})  # noqa: S102 - our own README
    assert jaxinfl.Ensemble.open(next((tmp_path / "runs").iterdir())).complete


def test_files_and_modules_exist():
    for module in re.findall(r"python -m ([\w.]+)", README):
        assert (ROOT / (module.replace(".", "/") + ".py")).is_file(), module
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / path).exists(), path


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_public_names_are_documented():
    for name in jaxinfl.__all__:
        assert getattr(jaxinfl, name).__doc__, name
