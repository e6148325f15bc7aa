"""What the page of all examples holds: partners, memorization, votes, images, texts and tables, and that text stays text."""

import base64
import io
import json

import numpy as np
import pandas
import pytest
from PIL import Image
from scipy.stats import false_discovery_control, fisher_exact, mannwhitneyu

import jaxinfl
from jaxinfl import Dataset, Ensemble
from jaxinfl.explore import __main__ as command
from jaxinfl.explore import inputs, write_explorer
from jaxinfl.explore.examples import count_votes, read_score
from jaxinfl.explore.inputs import SHEET_SIDE, show_inputs
from jaxinfl.explore.partners import find_partners
from jaxinfl.influence import outcomes
from jaxinfl.privacy import membership
from jaxinfl.statistics.memorization_tests import memorization_q_values
from tests.explored import (
    HELPED,
    HELPER,
    HOSTILE,
    HURT,
    HURTER,
    MEMORIZED,
    MODELS,
    TEST,
    TRAIN,
    WRONG_LABEL,
    make_images,
    make_runs,
    make_scores,
    script_json,
)

masks, train, test = make_scores()


def content_of(path):
    return json.loads(script_json(path.read_text()))


def decode(packed):
    raw = base64.b64decode(packed["bytes"])
    if packed["type"] != "steps":
        return np.frombuffer(raw, {"float32": "<f4", "int32": "<i4", "int8": "<i1"}[packed["type"]])
    steps = np.frombuffer(raw, "<i2").astype(float)
    return np.where(steps == -32768, np.nan, steps * packed["scale"])


@pytest.mark.parametrize("rows", [None, 7])
def test_partners_are_the_strongest_of_each_sign(rows, monkeypatch):
    packed = jaxinfl.pack(masks, test)
    if rows:  # several tiles
        monkeypatch.setattr(outcomes, "default_rows", lambda *_: rows)
    found = find_partners(packed, 4)
    full = np.stack([test[column].mean(0) - test[~column].mean(0) for column in masks.T])
    for partners, matrix in (
        (found.helped_by_train, full),
        (found.hurt_by_train, -full),
        (found.for_test, full.T),
        (found.against_test, -full.T),
    ):
        expected = np.sort(matrix, axis=1)[:, ::-1][:, :4]
        np.testing.assert_allclose(np.abs(partners.influence), expected, atol=1e-12)
        np.testing.assert_allclose(np.take_along_axis(matrix, partners.partner, 1), expected, atol=1e-12)
    discovered = jaxinfl.discoveries(masks, test)
    assert found.num_discovered == len(discovered)
    assert found.helped_by_train.partner[HELPER, 0] == HELPED and found.against_test.partner[HURT, 0] == HURTER
    (place,) = np.flatnonzero((discovered.train_index == HELPER) & (discovered.test_index == HELPED))
    assert found.helped_by_train.q_value[HELPER, 0] == discovered.q_value[place] < 1e-6
    told = np.count_nonzero(~np.isnan(found.helped_by_train.q_value)) + np.count_nonzero(
        ~np.isnan(found.hurt_by_train.q_value)
    )
    assert told == len(discovered)


def test_intervals_of_noise_contain_0():
    """The strongest of many are chosen: plain 95% intervals of them would mostly miss."""
    rng = np.random.default_rng(1)
    found = find_partners(jaxinfl.pack(masks, rng.random((MODELS, 300)) < 0.7), 4)
    for both, confidence in (
        ((found.helped_by_train, found.hurt_by_train), found.confidence_of_train),
        ((found.for_test, found.against_test), found.confidence_of_test),
    ):
        low, high, influence = (
            np.concatenate([getattr(each, name) for each in both]) for name in ("low", "high", "influence")
        )
        assert 0.02 < np.mean((low > 0) | (high < 0)) < 0.08 and 0.98 < confidence < 1
        assert ((low < influence) & (influence < high)).all()


@pytest.mark.parametrize(("models", "right"), [(200, 0.95), (50, 0.6), (400, 0.8)])
def test_the_band_holds_95_percent_of_noise(tmp_path, models, right):
    rng = np.random.default_rng(2)
    own = rng.random((models, 3000)) < 0.5
    runs = Ensemble.from_scores(own, {"correct": rng.random(own.shape) < right})
    risk = membership(own, rng.normal(size=own.shape), method="threshold")
    content = content_of(write_explorer(runs, out=tmp_path / "page.html", membership=risk))
    values = {name: decode(array) for name, array in content["train"]["values"].items()}
    for height in ("memorization", "risk"):
        across, low, high = (
            np.array([point[name] for point in content["bands"][height]]) for name in ("across", "low", "high")
        )
        up = values[height]
        within = (up >= np.interp(values["mean_out"], across, low)) & (
            up <= np.interp(values["mean_out"], across, high)
        )
        assert 0.92 < within.mean() < 0.98
    # Colour is for what is told from chance: of noise that is next to nothing.
    assert np.mean(values["q"] <= 0.05) < 0.001 and np.mean(values["risk_q"] <= 0.05) < 0.001


def test_few_partners_undefined_pairs_and_complements():
    own = masks.copy()
    own[:, 0], own[:, 1] = True, False
    found = find_partners(jaxinfl.pack(own, test[:, :3]), 8)
    for partners in (found.helped_by_train, found.hurt_by_train):
        assert partners.partner.shape == (TRAIN, 3) and (partners.partner[:2] == -1).all()
        assert np.isnan(partners.influence[:2]).all() and np.isnan(partners.low[partners.partner < 0]).all()
        assert np.isfinite(partners.low[partners.partner >= 0]).all()
    both = np.concatenate([masks[:200], ~masks[:200]])
    assert find_partners(jaxinfl.pack(both, test), 2).num_discovered is None


def test_q_values_of_memorization():
    found = memorization_q_values(masks, train)
    tables = [
        [[np.sum(train[seen, i]), np.sum(~train[seen, i])], [np.sum(train[~seen, i]), np.sum(~train[~seen, i])]]
        for i, seen in enumerate(masks.T)
    ]
    expected = false_discovery_control([fisher_exact(table, "greater").pvalue for table in tables])
    np.testing.assert_allclose(found, expected, rtol=1e-8)
    assert found[MEMORIZED] < 1e-6 and np.sum(found < 0.05) == 2

    values = np.random.default_rng(0).normal(size=masks.shape).round(1) + 0.5 * masks * (np.arange(TRAIN) < 5)
    ranked = [
        mannwhitneyu(values[seen, i], values[~seen, i], alternative="greater", use_continuity=False).pvalue
        for i, seen in enumerate(masks.T)
    ]
    np.testing.assert_allclose(memorization_q_values(masks, values), false_discovery_control(ranked), rtol=1e-6)
    own = masks.copy()
    own[:, 0] = True
    assert (
        np.isnan(memorization_q_values(own, values)[0]) and not np.isnan(memorization_q_values(own, values)[1:]).any()
    )
    assert (memorization_q_values(masks, np.ones(masks.shape)) == 1).all()
    with pytest.raises(ValueError, match="train_score has shape"):
        memorization_q_values(masks, values[:, 1:])


def test_labels_that_may_be_wrong():
    runs = make_runs()
    votes = count_votes(runs, "train", ~masks, 0, read_score(runs, None))
    assert votes.right[WRONG_LABEL] == 0 and np.flatnonzero(votes.suspect).tolist() == [WRONG_LABEL]
    np.testing.assert_allclose(votes.right[0], train[~masks[:, 0], 0].mean())
    named = Ensemble.from_scores(masks, {"hit": train}, {"hit": test})  # 0-1 scores are right or wrong by any name
    np.testing.assert_array_equal(count_votes(named, "train", ~masks, 0, read_score(named, None)).right, votes.right)
    floats = Ensemble.from_scores(masks, {"bleu": train * 1.5}, {"bleu": test * 1.5})
    assert count_votes(floats, "train", ~masks, 0, read_score(floats, None)) is None


def test_predictions_vote(base):
    """`base` are six trained models."""
    votes = count_votes(base, "train", ~base.masks, 3, read_score(base, None))
    for i in range(base.masks.shape[1]):
        without = base.train_prediction[~base.masks[:, i], i]
        if not without.size:
            assert np.isnan(votes.right[i])
            continue
        counts = np.bincount(without, minlength=3)
        label = base.train_targets[i]
        assert votes.right[i] == counts[label] / without.size
        counts[label] = -1
        assert votes.other_low[i] <= votes.other_share[i] <= votes.other_high[i]
        assert votes.other_share[i] == counts.max() / without.size and counts[votes.other[i]] == counts.max()


@pytest.mark.parametrize(("name", "kind"), [("loss", "real"), ("margin@5", "real"), ("correct", "0-1")])
def test_larger_scores_are_better(name, kind):
    values = (train if kind == "0-1" else train * np.float32(1.5), test if kind == "0-1" else test * np.float32(1.5))
    plain = name.partition("@")[0]
    runs = Ensemble.from_scores(masks, {plain: values[0]}, {plain: values[1]})
    score = read_score(runs, plain)
    sign = -1 if plain == "loss" else 1
    np.testing.assert_array_equal(score.train if sign == 1 else -score.train, values[0])
    assert score.kind == kind


def test_the_page_holds_everything(tmp_path):
    data = make_images()
    runs = make_runs(data)
    risk = membership(masks, train.astype(np.float32), method="threshold")
    path = write_explorer(runs, data, tmp_path / "deep" / "page.html", membership=risk, partners=3)
    content = content_of(path)
    assert [each.name for each in path.parent.iterdir()] == ["page.html"]
    values = {name: decode(array) for name, array in content["train"]["values"].items()}
    np.testing.assert_allclose(values["memorization"], jaxinfl.memorization(masks, train), atol=1e-6)
    assert values["suspect"].nonzero()[0].tolist() == [WRONG_LABEL]
    np.testing.assert_allclose(values["risk"], risk.risk.told_apart, atol=1e-6)
    np.testing.assert_array_equal(values["classes"], data.train_targets)
    helped = content["partners"]["train"][0]
    assert decode(helped["index"]).reshape(TRAIN, 3)[HELPER, 0] == HELPED and helped["width"] == 3
    assert abs(decode(helped["influence"]).reshape(TRAIN, 3)[HELPER, 0] - 0.6) < 0.1
    assert content["classes"][2] == HOSTILE and content["models"] == MODELS
    sprites = content["sprites"]
    sheets = path.read_text().split('<script type="text/plain" id="sheet')[1:]
    assert len(sheets) == -(-(TRAIN + TEST) // SHEET_SIDE**2)
    for place in (0, 63, 64, TRAIN, TRAIN + TEST - 1):  # without loss, where it fits
        text = sheets[place // SHEET_SIDE**2].partition(">")[2].partition("<")[0]
        sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))
        row, column = divmod(place % SHEET_SIDE**2, SHEET_SIDE)
        own = sheet[8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        both = np.concatenate([data.train_inputs, data.test_inputs])
        np.testing.assert_array_equal(own, both[place])
    assert sprites["mime"] == "image/png" and sprites["width"] == sprites["height"] == 8


def test_text_stays_text_and_no_address_is_opened(tmp_path):
    data = make_images()
    text = write_explorer(make_runs(data), data, tmp_path / "page.html").read_text()
    assert "<img src=x" not in text and "document.title='pwned'</script>" not in text
    assert "default-src 'none'" in text and text.count("<script") == text.count("</script>")
    assert json.loads(script_json(text))["classes"][2] == HOSTILE


def test_images_that_do_not_fit_lose_quality_then_size(monkeypatch):
    rng = np.random.default_rng(0)
    labels = np.arange(70) % 2
    data = Dataset(
        train_inputs=rng.integers(0, 256, (70, 120, 60, 3)).astype(np.uint8),
        train_targets=labels,
        test_inputs=rng.integers(0, 256, (70, 120, 60, 3)).astype(np.uint8),
        test_targets=labels,
    )
    shown = show_inputs(data)
    assert (shown.sprites.width, shown.sprites.height) == (48, 96)
    assert shown.notes == ["Images of 60 x 120 pixels are shown at 48 x 96."]
    for room, mime in ((400_000, "image/webp"), (60_000, "image/webp")):
        monkeypatch.setattr(inputs, "_MOST_BYTES", room)
        smaller = show_inputs(data)
        assert smaller.sprites.mime == mime and sum(map(len, smaller.sprites.sheets)) < 1.2 * room
        assert "compressed with loss" in smaller.notes[0]
    assert smaller.sprites.height < 96
    grey = make_images(channels=1)
    assert Image.open(io.BytesIO(show_inputs(grey).sprites.sheets[0])).mode == "L"


def test_columns_have_the_names_of_their_file(tmp_path):
    table = pandas.DataFrame({HOSTILE: np.arange(6) / 2, "town": ["Aa", HOSTILE] * 3, "price": np.arange(6.0)})
    for split in ("train", "test"):
        table.to_csv(tmp_path / f"{split}.csv", index=False)
    shown = show_inputs(jaxinfl.load_dataset(tmp_path, targets="price", categories=["town"], task="regression"))
    assert [name for name, _ in shown.columns] == [HOSTILE]
    assert shown.texts == [("town", ["Aa", HOSTILE] * 6)]


def test_tables_and_texts():
    rng = np.random.default_rng(0)
    rows = {"age": rng.normal(size=9), "pixels": rng.normal(size=(9, 7, 9)), "town": np.arange(9) % 2}
    data = Dataset(
        train_inputs=rows,
        train_targets=rng.normal(size=9),
        test_inputs={name: array[:4] for name, array in rows.items()},
        test_targets=rng.normal(size=4),
        task="regression",
        category_names={"town": ("Aa", HOSTILE)},
    )
    shown = show_inputs(data)
    assert [name for name, _ in shown.columns][:2] == ["age", "pixels 0"] and len(shown.columns) == 40
    assert shown.notes == ["The first 40 of 64 numbers of each example are shown."]
    np.testing.assert_allclose(shown.columns[0][1], np.concatenate([rows["age"], rows["age"][:4]]))
    assert shown.texts[0][0] == "town" and shown.texts[0][1][1] == HOSTILE and len(shown.texts[0][1]) == 13


@pytest.mark.parametrize(
    ("splits", "missing"),
    [
        (("train", "test"), ""),
        (("train",), "no scores of test examples, so there are no influential pairs"),
        (("test",), "no scores of training examples, so there is no memorization"),
    ],
)
def test_runs_that_know_less(tmp_path, splits, missing):
    scores = {"train": train * np.float32(1.5), "test": test * np.float32(1.5)}
    given = {split: {"bleu": scores[split]} for split in splits}
    path = write_explorer(Ensemble.from_scores(masks, **given), out=tmp_path / "page.html", partners=2)
    text, content = path.read_text(), content_of(path)
    assert missing in text and "shown by their numbers" in text and "mean of the score bleu" in text
    assert (content["partners"] is None) == ("test" not in splits)
    assert ("memorization" in content["train"]["values"]) == ("train" in splits)
    assert content["classes"] == [] and content["sprites"] is None


def test_undefined_and_diverged(tmp_path):
    own = masks.copy()
    own[:, 0] = True
    values = np.where(np.arange(MODELS)[:, None] == 9, np.nan, train * 1.5)
    others = np.where(np.arange(MODELS)[:, None] == 9, np.nan, test * 1.5)
    with pytest.warns(RuntimeWarning, match="1 of 400 models diverged"):
        runs = Ensemble.from_scores(own, {"bleu": values}, {"bleu": others})
    path = write_explorer(runs, out=tmp_path / "page.html")
    found = {name: decode(array) for name, array in content_of(path)["train"]["values"].items()}
    assert (
        np.isnan(found["memorization"][0]) and np.isnan(found["q"][0]) and np.isfinite(found["memorization"][1:]).all()
    )
    reasons = content_of(path)["reasons"]
    assert reasons[0] == "" and reasons[int(found["reason"][0])]
    assert "Models that diverged are left out: 1." in path.read_text() and "399 models" in path.read_text()


def test_what_does_not_fit_is_refused(tmp_path):
    data, runs = make_images(), make_runs()
    out = tmp_path / "page.html"
    other = make_images(seed=1)
    for given, message in (
        ({"runs": masks}, "(?s)runs is .*it takes an Ensemble"),
        ({"data": data.select(np.arange(5), np.arange(TEST))}, "data has 5 training examples and the run 90"),
        ({"data": data.select(np.arange(TRAIN), np.arange(5))}, "data has 5 test examples and the run 40"),
        ({"runs": make_runs(data), "data": other}, "content differs from that of the run's data"),
        ({"data": "digits"}, "data is 'digits'; it takes a jaxinfl.Dataset, or None"),
        ({"score": "margin"}, "score is 'margin'; this ensemble has 'correct'"),
        ({"membership": 3}, "membership is int"),
        (
            {"membership": membership(masks[:, :5], train[:, :5] * 1.0)},
            "membership is about 5 examples and the run has 90",
        ),
        ({"partners": 0}, "partners is 0"),
        ({"out": tmp_path}, "a folder; it takes the HTML file to write"),
    ):
        with pytest.raises((TypeError, ValueError), match=message):
            write_explorer(**{"runs": runs, "out": out} | given)
    assert not out.exists()


def test_the_command(tmp_path, capsys, monkeypatch):
    make_runs().save(tmp_path / "run")
    opened = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert command.main([str(tmp_path / "run"), "--out", str(tmp_path / "page.html"), "--open"]) == 0
    assert "needs no server and no network" in capsys.readouterr().out
    assert opened == [(tmp_path / "page.html").as_uri()]
    for arguments, message in (
        ([str(tmp_path / "none")], "is no run directory"),
        ([str(tmp_path / "run"), "--risk"], "--risk takes a run with margins; this one has the scores correct"),
        ([str(tmp_path / "run"), "--data", str(tmp_path / "none.npz")], "none.npz"),
        ([str(tmp_path / "run"), "--data", "digits"], "data has 1437 training examples and the run 90"),
    ):
        assert command.main([*arguments, "--out", str(tmp_path / "other.html")]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "other.html").exists()


def test_data_that_are_gone_are_said_to_be(tmp_path, capsys):
    images = make_images()
    np.savez(
        tmp_path / "toy.npz",
        x_train=images.train_inputs,
        y_train=images.train_targets,
        x_test=images.test_inputs,
        y_test=images.test_targets,
    )
    data = jaxinfl.load_dataset(str(tmp_path / "toy.npz"))
    make_runs(data).save(tmp_path / "run")
    assert command.main([str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    assert content_of(tmp_path / "page.html")["sprites"] and not capsys.readouterr().err
    (tmp_path / "toy.npz").rename(tmp_path / "moved.npz")
    assert command.main([str(tmp_path / "run"), "--out", str(tmp_path / "page.html")]) == 0
    assert "shows examples by their numbers" in capsys.readouterr().err
    assert content_of(tmp_path / "page.html")["sprites"] is None
    moved = ["--data", str(tmp_path / "moved.npz")]
    assert command.main([str(tmp_path / "run"), *moved, "--out", str(tmp_path / "page.html")]) == 0
    assert content_of(tmp_path / "page.html")["sprites"]
