"""What the README says can be typed."""

import re
from pathlib import Path

import numpy as np

import jaxinfl
from tests.example_tables import write_csv, write_images, write_tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def test_the_scripts_run(tmp_path, monkeypatch):
    script, judging = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "400" in script and script.count("\n") <= 15
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(script.replace("400", "60"), names)  # noqa: S102 - our own README
    names["attribution"] = np.random.default_rng(0).normal(size=(1437, 360))
    exec(judging, names)  # noqa: S102
    assert names["runs"].complete and -1 < names["score"].mean < 1


def test_the_page_on_models_trained_elsewhere_runs(tmp_path, monkeypatch, capsys):
    """It runs here with 20 of its 200 models; ten lines score them, and what they save is the run."""
    page = (ROOT / "docs" / "models_trained_elsewhere.md").read_text()
    training, scoring = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "draw_subsets(200, " in training and "n_estimators=30" in training and scoring.count("\n") == 10
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(training.replace("draw_subsets(200, ", "draw_subsets(20, "), names)  # noqa: S102 - our own page
    exec(scoring, names)  # noqa: S102
    assert "20 models cannot tell" in capsys.readouterr().out
    saved = jaxinfl.Ensemble.open("runs/breast_cancer")
    assert len(saved) == 20 and saved.scores == ("correct", "margin")
    np.testing.assert_array_equal(saved.test_margin, names["margin"][:, 400:].astype(np.float32))
    assert saved.test_correct.mean() > 0.9


def test_the_page_on_data_runs(tmp_path, monkeypatch, capsys):
    """Its programs run on folders of the kinds that it names."""
    pixels = write_images(tmp_path / "pets")
    rows = "".join(f"{k % 5},{20 + k},{('Aa', 'Bb', 'Cc')[k % 3]},{k * 1.5}\n" for k in range(30))
    write_csv(tmp_path / "houses", f"rooms,area,town,price\n{rows}", f"rooms,area,town,price\n{rows}")
    write_tables(tmp_path / "reviews")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "data.md").read_text(), re.DOTALL):
        exec(block, names)  # noqa: S102 - our own page
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == f"('cat', 'dog', 'eel') ({len(pixels)}, 32, 32, 3)"
    assert printed[1:] == ["regression (30, 2)", "{'numbers': (30, 2), 'town': (30,)} {'town': 3}"]
    assert (
        names["reviews"].categories == {"": 256} and names["data"].task.name == names["sums"].task.name == "regression"
    )


def test_the_page_on_membership_runs(capsys):
    """It runs here with 12 of its 256 models and 2 of its 10 epochs."""
    (script,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "api.md").read_text().partition("### Membership")[2], re.DOTALL
    )
    assert script.count("256") == 2 and "epochs=10" in script
    names = {}
    exec(script.replace("256", "12").replace("epochs=10", "epochs=2"), names)  # noqa: S102 - our own page
    assert names["margins"].shape == (3, 12, 1437)
    np.testing.assert_allclose(names["margins"][0], names["runs"].train_margin, rtol=1e-3, atol=1e-4)
    assert capsys.readouterr().out.count("Rate(value=0.") >= 2


def test_files_and_modules_exist():
    for module in re.findall(r"python -m ([\w.]+)", README):
        place = ROOT / module.replace(".", "/")
        assert place.with_suffix(".py").is_file() or (place / "__main__.py").is_file(), module
    for path in re.findall(r"\]\(([\w./]+)\)", README):
        assert (ROOT / path).exists(), path


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`", README)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_public_names_are_documented():
    for name in jaxinfl.__all__:
        assert getattr(jaxinfl, name).__doc__, name
