"""A small valid call of every public function, with the kind of each argument."""

import itertools

import jax
import numpy as np

import jaxinfl
from jaxinfl import recipes, statistics
from jaxinfl.influence import count_pairs, joint_counts
from jaxinfl.models import build_model
from tests.bad_inputs import (
    ARRAY,
    AS_ARRAY,
    CHOICE,
    CLASSES,
    ESTIMATE,
    INDICES,
    MASKS,
    MATRIX,
    NOT_FINITE,
    NOT_NUMBERS,
    NOTHING_ELSE,
    NUMBER,
    NUMBERS,
    PATH,
    PROBABILITIES,
    SCALAR,
    SCORE,
    SEED,
    SWITCH,
    WRONG_MODELS,
    Call,
    Kind,
    at_random,
    cast,
    constant,
    share,
    whole,
)

_rng = np.random.default_rng(0)
MODELS, TRAIN, TEST = 12, 6, 5
masks = np.stack([_rng.permutation(MODELS) < MODELS // 2 for _ in range(TRAIN)], axis=1)
# 12 of the 20 subsets of three; no two complements among the first ten.
distinct = np.array([np.isin(np.arange(TRAIN), chosen) for chosen in itertools.combinations(range(TRAIN), 3)])[:MODELS]
train_correct, correct = _rng.random((MODELS, TRAIN)) < 0.6, _rng.random((MODELS, TEST)) < 0.6
probability = _rng.random((MODELS, TEST), np.float32)
estimates = _rng.standard_normal((2, TRAIN, TEST)).astype(np.float32)
thresholds = np.array([0.125, 0.25, 0.5], np.float32)
pairs = np.array([0, 3, 5]), np.array([1, 1, 4])
groups = np.array([4, -2, 4, 9, 9, 4])
grouped = masks[:, [0, 1, 0, 2, 2, 0]]
left_out = np.concatenate([np.ones((4, TRAIN), bool), jaxinfl.leave_one_out(TRAIN, [0, 1, 2, 3], 2)])
images = _rng.integers(0, 256, (TRAIN + 2, 8, 8, 1), dtype=np.uint8)
labels = np.array([0, 1, 2, 0, 1, 2, 1, 0])
data = jaxinfl.Dataset(
    train_inputs=images[:TRAIN], train_targets=labels[:TRAIN], test_inputs=images[TRAIN:], test_targets=labels[TRAIN:]
)
keys = jax.random.split(jax.random.key(0), MODELS)
scores_given = jaxinfl.Ensemble.from_scores(masks, {"right": train_correct}, {"right": correct})
weights = jax.tree.map(
    lambda leaf: np.zeros((MODELS, *leaf.shape), leaf.dtype),
    jax.eval_shape(build_model("small_mlp", inputs=(8, 8, 1), outputs=3).init, jax.random.key(0)),
)

LIMITS = NUMBERS.but("infinite", "minus infinite")
SOME_TRAIN = INDICES.but("none")
ANY_MEMORIZATION = NUMBER.but("none", array=lambda value, rng: np.full(3, value), huge=constant(10**400))
GROUPS = Kind(
    ARRAY
    | {
        "floats": cast(float),
        "booleans": cast(bool),
        "nan": lambda value, rng: at_random(value, rng, np.nan),
        "missing": lambda value, rng: [*value[:-1].tolist(), None],
        "text and numbers": lambda value, rng: [*value[:-1].tolist(), "a"],
        "one group": lambda value, rng: np.zeros(len(value), int),
        "one more": lambda value, rng: np.append(value, value[:1]),
        "one less": lambda value, rng: value[1:],
        "number": constant(0),
    },
    AS_ARRAY,
).but("strings")
ATTRIBUTION = Kind(MATRIX | NOT_FINITE, AS_ARRAY)
SIZES = INDICES.but("as objects")
TOO_MANY = whole(1).but(huge=constant(10**30))
PENALTY = Kind({name: change for name, change in SCALAR.items() if name != "none"} | {"zero": constant(0.0)}, {})
PILOT = Kind(
    {
        "none": constant(None),
        "number": constant(3),
        "masks alone": lambda value, rng: value[:1],
        "nothing": constant(()),
    },
    {},
)
CROSSED = Kind(
    ARRAY
    | NOT_FINITE
    | {
        "flat": lambda value, rng: value.reshape(-1),
        "integers": cast(int),
        "one subset": lambda value, rng: value[:1],
        "one seed": lambda value, rng: value[:, :1],
        "no examples": lambda value, rng: value[:, :, :0],
        "huge": lambda value, rng: at_random(value, rng, 1e200),
    },
    AS_ARRAY,
)
NO_NAME = Kind({"text": constant("margin"), "number": constant(3), "array": lambda value, rng: np.zeros(3)})
"""Kind of arguments that name a score, which is refused where no ensemble is given."""
EFFECTS = Kind(
    {name: change for name, change in NUMBERS.broken.items() if name != "stacked"}
    | {"too large": lambda value, rng: at_random(value, rng, 0.6 + rng.random())},
    {name: change for name, change in AS_ARRAY.items() if name != "jax"},
)
SIDE = Kind(
    {name: change for name, change in NUMBERS.broken.items() if name != "stacked"}
    | {"negative": lambda value, rng: at_random(value, rng, -1 - rng.random())},
    AS_ARRAY,
)
SHARES = PROBABILITIES.but("nan", "all nan")
IMAGES = Kind(
    ARRAY
    | {
        "floats": cast(float),
        "integers": cast(int),
        "booleans": cast(bool),
        "flat": lambda value, rng: value.reshape(-1),
        "channels first": lambda value, rng: value.transpose(0, 3, 1, 2),
        "other pixels": lambda value, rng: value[:, :2],
        "one more row": lambda value, rng: np.concatenate([value, value[:1]]),
    },
    {name: change for name, change in AS_ARRAY.items() if name != "list"},
)
LABELS = Kind(
    ARRAY
    | NOT_FINITE
    | {
        "floats": cast(float),
        "booleans": cast(bool),
        "negative": lambda value, rng: at_random(value, rng, -1).astype(int),
        "a gap": lambda value, rng: at_random(value, rng, 10 + rng.integers(2**40)).astype(np.int64),
        "one more row": lambda value, rng: np.concatenate([value, value[:1]]),
    },
    AS_ARRAY,
)
NAMES = Kind(
    NOT_NUMBERS
    | {
        "number": constant(3),
        "escape": constant(("a", "b\x1b[31m", "c")),
        "newline": constant(("a", "b\n", "c")),
        "half a pair": constant(("a", "b\udcff", "c")),
        "twice": constant(("a", "a", "c")),
        "one": constant(("a",)),
        "bytes in it": constant((b"a", "b", "c")),
    }
)
KEYS = Kind(
    NOT_NUMBERS
    | {
        "none": constant(None),
        "number": constant(0),
        "list": lambda value, rng: list(value),
        "integers": lambda value, rng: np.arange(len(value)),
        "raw of another length": lambda value, rng: np.zeros((len(value), int(rng.choice([1, 3, 4]))), np.uint32),
        "raw flat": lambda value, rng: np.zeros(2 * len(value), np.uint32),
        "one": lambda value, rng: value[0],
        "fewer": lambda value, rng: value[: int(rng.integers(0, len(value)))],
        "rbg": lambda value, rng: jax.random.split(jax.random.key(0, impl="rbg"), len(value)),
    },
    {"raw": lambda value, rng: np.asarray(jax.random.key_data(value))},
)
NETWORK = NOTHING_ELSE.but("type", "function", "none", **WRONG_MODELS)
OVERRIDES = Kind(
    {name: change for name, change in NOT_NUMBERS.items() if name != "dictionary"}
    | {
        "unknown": constant({"epochs": [1] * MODELS}),
        "too few": constant({"learning_rate": [0.1] * 3}),
        "nan": constant({"learning_rate": [float("nan")] * MODELS}),
        "negative": constant({"weight_decay": [-1] * MODELS}),
        "strings": constant({"learning_rate": ["0.1"] * MODELS}),
        "ragged in it": constant({"learning_rate": [[1], [1, 2]]}),
    }
)
RATE = Kind(SCALAR | {"below": constant(-1e-9), "above": constant(1e6 + 1), "infinite": constant(float("inf"))})
SHARE_OF_RECIPE = RATE.but(above=constant(1.001), huge=constant(10**400))
EPOCHS = Kind(
    {name: change for name, change in NOT_NUMBERS.items() if name != "set"}
    | {
        "none": constant(None),
        "number": constant(3),
        "nan": constant((1.0, float("nan"))),
        "infinite": constant((1.0, float("inf"))),
        "negative": constant((-1, 2)),
        "falling": constant((2, 1)),
        "strings": constant("12"),
        "booleans": constant((True,)),
    },
    {"list": lambda value, rng: list(value), "array": lambda value, rng: np.array(value)},
)
CHANNELS = Kind(
    NOT_NUMBERS
    | {
        "none": constant(None),
        "number": constant(0.5),
        "nan": constant(((float("nan"), 1),)),
        "no deviation": constant(((0.5, 0),)),
        "strings": constant((("0.5", "0.2"),)),
        "empty": constant(()),
    }
)

CHOICE_OF_BACKGROUND = Kind(
    {name: change for name, change in CHOICE.broken.items() if name not in ("none", "upper case", "array", "list")}
    | {"another color": constant("gray"), "not for digits": constant("white"), "list": constant(["white"])}
)

SCORES_BY_NAME = Kind(
    {name: change for name, change in NOT_NUMBERS.items() if name not in ("dictionary",)}
    | {
        "number": constant(3),
        "array": lambda value, rng: next(iter(value.values())),
        "empty": constant({}),
        "no string": lambda value, rng: {3: np.zeros((MODELS, TRAIN), bool)},
        "no identifier": lambda value, rng: {
            rng.choice(["", "a b", "1st", "../a", "class", "labels", "é", "x" * 65]): value["right"]
        },
        "twice but for case": lambda value, rng: value | {"Right": value["right"]},
    }
    | {
        name: lambda value, rng, change=change: {"right": change(value["right"], rng)}
        for name, change in SCORE.but("nan", "infinite", "minus infinite", "all nan", "no columns").broken.items()
    }
    | {
        f"{name} somewhere": lambda value, rng, change=change: {"right": change(value["right"], rng)}
        for name, change in NOT_FINITE.items()
        if name != "all nan"
    },
    {"copy": lambda value, rng: {name: np.array(scores) for name, scores in value.items()}},
)

_score = {"masks": MASKS, "score": SCORE}
_both = {"masks": MASKS, "train_score": MASKS.but("floats"), "test_score": SCORE}
_given = {"masks": masks, "score": probability}
_pools = {"masks": masks, "train_score": train_correct, "test_score": probability}
_attributed = {"attribution": estimates[0], "confidence": 0.9, "repeats": 3, "seed": 0}
_attribution = {"attribution": ATTRIBUTION, "confidence": share(), "repeats": whole(1, 1_000_000), "seed": SEED}
_two = {"p": np.array([0.6, 0.9, 1.0]), "q": np.array([0.4, 0.7, 0.9]), "delta": 0.1}
_two_kinds = {"p": PROBABILITIES, "q": PROBABILITIES, "delta": share(0.0, 0.5)}
_sides = {"share_in": np.array([0.5, 1.0, 0.25]), "num_in": np.array([4.0, 4.0, 8.0]), "share_out": np.array([0.5, 0.0, 0.5]),
          "num_out": np.array([2.0, 4.0, 4.0]), "confidence": 0.9}  # fmt: skip
_side_kinds = {"share_in": SHARES, "num_in": SIDE, "share_out": SHARES, "num_out": SIDE, "confidence": share()}
_arrays = {"train_inputs": data.train_inputs, "train_targets": data.train_targets, "test_inputs": data.test_inputs,
           "test_targets": data.test_targets, "class_names": ("a", "b", "c"), "name": "toy"}  # fmt: skip
_array_kinds = {"train_inputs": IMAGES, "train_targets": LABELS, "test_inputs": IMAGES, "test_targets": LABELS,
                "class_names": NAMES, "name": PATH.but(escape=constant("a\x1b[2J"), none=constant(None))}  # fmt: skip
_table = {"train_inputs": {"x": estimates[0], "c": np.arange(TRAIN) % 3}, "train_targets": estimates[0][:, 0],
          "test_inputs": {"x": estimates[1], "c": np.arange(TRAIN) % 3}, "test_targets": estimates[1][:, 0],
          "task": "regression", "categories": {"c": 5}}  # fmt: skip
_targets = Kind({name: change for name, change in (ARRAY | NOT_FINITE).items() if name != "stacked"})
_table_kinds = {"train_inputs": NOTHING_ELSE, "test_inputs": NOTHING_ELSE, "train_targets": _targets, "test_targets": _targets,
                "task": CHOICE, "categories": NOTHING_ELSE.but("none")}  # fmt: skip


_run = {"masks": masks, "keys": keys, "data": data, "model": "small_mlp", "recipe": jaxinfl.Recipe(), "run_dir": None,
        "shard_size": 2, "width": 1, "kernels": "gemm", "tune": True, "overrides": None, "initial": None, "keep_weights": False,
        "keep_outputs": "test", "keep_epochs": (1, 2), "progress": False, "on_cost": None}  # fmt: skip
_run_kinds = {
    "masks": MASKS, "keys": KEYS, "data": NOTHING_ELSE, "model": NETWORK, "recipe": NOTHING_ELSE.but("none"), "run_dir": PATH,
    "shard_size": whole(1).but("none"), "width": whole(1, 2**16).but("none"), "kernels": CHOICE.but("none"), "tune": SWITCH,
    "overrides": OVERRIDES, "initial": NOTHING_ELSE.but("none"), "keep_weights": SWITCH, "keep_outputs": CHOICE.but("none"),
    "keep_epochs": EPOCHS.but("falling"), "progress": SWITCH,
    "on_cost": NOTHING_ELSE.but("none", "function", "type"),
}  # fmt: skip
_costs = ("masks", "keys", "data", "model", "recipe", "run_dir", "keep_weights", "keep_outputs", "keep_epochs")
_again = {name: _run[name] for name in ("masks", "data", "model", "recipe", "kernels")}
_again_kinds = {name: _run_kinds[name] for name in _again} | {
    "recipe": NOTHING_ELSE,
    "weights": NOTHING_ELSE,
    "views": CHOICE,
}
_recipe = {
    "epochs": 3, "batch_size": 8, "microbatch": 4, "optimizer": "sgd", "learning_rate": 0.1, "momentum": 0.9, "nesterov": True,
    "schedule": "step", "milestones": (1, 2), "decay_factor": 0.1, "warmup_epochs": 1.0, "weight_decay": 0.0,
    "label_smoothing": 0.1, "resized_crop": 8, "flip": True, "normalization": ((0.5, 0.25),), "compute_dtype": "float32",
}  # fmt: skip
_recipe_kinds = {
    "epochs": whole(0, 10**9), "batch_size": whole(1, 10**9), "microbatch": whole(1, 10**9).but("none"), "optimizer": CHOICE,
    "learning_rate": RATE, "momentum": SHARE_OF_RECIPE, "nesterov": SWITCH, "schedule": CHOICE, "milestones": EPOCHS,
    "decay_factor": SHARE_OF_RECIPE, "weight_decay": RATE, "label_smoothing": SHARE_OF_RECIPE,
    "resized_crop": whole(1, 4096).but("none"), "flip": SWITCH, "normalization": CHANNELS, "compute_dtype": CHOICE,
}  # fmt: skip

CALLS = [
    Call(jaxinfl.influence, _given, _score),
    Call(jaxinfl.memorization, {"masks": masks, "train_score": train_correct},
         {"masks": MASKS, "train_score": MASKS.but("floats")}),
    Call(jaxinfl.pack, _given | {"train_score": train_correct},
         {"masks": MASKS, "score": SCORE.but("none"), "train_score": MASKS.but("floats", "none")}),
    Call(jaxinfl.iou, {"influence_a": estimates[0], "influence_b": estimates[1], "thresholds": thresholds},
         {"influence_a": ESTIMATE, "influence_b": ESTIMATE, "thresholds": LIMITS}),
    Call(jaxinfl.iou_of_models,
         {"masks_a": masks, "score_a": probability, "masks_b": ~masks, "score_b": correct, "thresholds": thresholds,
          "examples": np.array([0, 2, 5]), "tile": 2},
         {"masks_a": MASKS, "score_a": SCORE, "masks_b": MASKS, "score_b": MASKS.but("floats"), "thresholds": LIMITS,
          "examples": SOME_TRAIN, "tile": whole(1).but("none")}),
    Call(jaxinfl.iou_curve,
         _pools | {"num_models": np.array([2, 4]), "thresholds": thresholds, "repeats": 2, "seed": 1, "min_memorization": -1.5},
         _both | {"num_models": SIZES, "thresholds": LIMITS.but("none"), "repeats": whole(1, 10**6), "seed": SEED,
                  "min_memorization": ANY_MEMORIZATION}),
    Call(jaxinfl.top_pairs, _pools | {"k": 4, "min_memorization": -1.5, "tile": 2},
         _both | {"k": whole(1), "min_memorization": ANY_MEMORIZATION, "tile": whole(1).but("none")}),
    Call(joint_counts, {"masks": masks, "correct": correct, "method": "bits"},
         {"masks": MASKS, "correct": MASKS, "method": CHOICE}),
    Call(count_pairs, _given | {"thresholds": thresholds, "examples": np.array([0, 1])},
         _score | {"thresholds": LIMITS, "examples": SOME_TRAIN}),
    Call(jaxinfl.check_coverage, {"masks": masks}, {"masks": MASKS.but("one more row", "one row less")}),
    Call(jaxinfl.draw_subsets, {"num_models": 4, "num_train": 10, "ratio": 0.5, "seed": 3, "design": "balanced"},
         {"num_models": TOO_MANY, "num_train": TOO_MANY, "ratio": share(with_high=True), "seed": SEED, "design": CHOICE}),
    Call(jaxinfl.draw_subsets,
         {"num_models": 4, "num_train": TRAIN, "ratio": 0.5, "seed": 3, "design": "complementary", "groups": groups},
         {"num_train": TOO_MANY, "groups": GROUPS.but("none")}),
    Call(jaxinfl.leave_one_out, {"num_train": TRAIN, "dropped": np.array([9, 4]), "repeats": 2, "groups": groups},
         {"num_train": whole(2).but(huge=constant(10**30)), "dropped": INDICES.but("as objects", "set"), "repeats": TOO_MANY,
          "groups": GROUPS.but("none")}),
    Call(jaxinfl.group_masks, {"masks": grouped, "groups": groups}, {"masks": MASKS.but("one more row", "one row less"), "groups": GROUPS}),
    Call(jaxinfl.check_coverage, {"masks": grouped, "groups": groups},
         {"masks": MASKS.but("one more row", "one row less"), "groups": GROUPS.but("none")}),
    Call(jaxinfl.pack, {"masks": grouped, "score": correct, "train_score": train_correct, "groups": groups},
         {"masks": MASKS, "score": SCORE.but("none"), "train_score": MASKS.but("floats", "none"), "groups": GROUPS.but("none")}),
    Call(jaxinfl.leave_one_out, {"num_train": 6, "dropped": np.array([1, 4]), "repeats": 2},
         {"num_train": whole(2).but(huge=constant(10**30)), "dropped": INDICES.but("as objects", "set"), "repeats": TOO_MANY}),
    Call(jaxinfl.agreement, {"predictions": labels.reshape(4, 2)}, {"predictions": CLASSES.but("one more row", "one row less")}),
    Call(statistics.agreement_between, {"one": labels.reshape(4, 2), "other": labels[::-1].reshape(4, 2)},
         {"one": CLASSES, "other": CLASSES}),
    Call(jaxinfl.data_banzhaf, _given, _score),
    Call(jaxinfl.datamodel_weights, _given | {"method": "ridge", "penalty": 2.5},
         _score | {"method": CHOICE, "penalty": PENALTY}),
    Call(jaxinfl.estimate, _given | {"method": "adjusted", "shrink": True, "correct": correct, "examples": np.array([0, 1])},
         {"masks": MASKS, "score": SCORE, "correct": MASKS.but("none"), "method": CHOICE, "shrink": SWITCH,
          "examples": SOME_TRAIN}),
    Call(jaxinfl.plan,
         {"pilot": (distinct, train_correct, correct), "target_iou": 0.6, "threshold": 0.25, "thresholds": thresholds,
          "min_memorization": 0.5, "doublings": 2, "confidence": 0.8, "repeats": 3},
         {"pilot": PILOT, "target_iou": share(), "threshold": share(), "thresholds": LIMITS.but("none"),
          "min_memorization": ANY_MEMORIZATION, "doublings": whole(1), "confidence": share(), "repeats": whole(2)}),
    Call(jaxinfl.discoveries, _given | {"fdr": 0.2, "method": "by", "alternative": "greater"},
         _score | {"fdr": share(), "method": CHOICE, "alternative": CHOICE}),
    Call(jaxinfl.lds, _given | _attributed, _score | _attribution),
    Call(jaxinfl.leave_one_out_correlation, _given | _attributed | {"masks": left_out, "correlation": "pearson"},
         _score | _attribution | {"correlation": CHOICE}),
    Call(jaxinfl.models_for_influence,
         {"effect": np.array([0.4, 0.5]), "base_rate": np.array([0.5, 0.5]), "ratio": 0.5, "alpha": 0.1, "power": 0.7},
         {"effect": EFFECTS, "base_rate": PROBABILITIES, "ratio": share(), "alpha": share(), "power": share()}),
    Call(statistics.power_of_influence, {"effect": 0.25, "base_rate": 0.5, "num_in": 9, "num_out": 7, "alpha": 0.1},
         {"effect": NUMBER, "base_rate": NUMBER.but("true", "numpy's false"), "num_in": whole(1, 100_000),
          "num_out": whole(1, 100_000), "alpha": share()}),
    Call(jaxinfl.models_needed, _two, _two_kinds),
    Call(jaxinfl.models_needed_for_good, _two, _two_kinds),
    Call(jaxinfl.models_needed_sequentially, _two, _two_kinds),
    *(Call(function, {"score": _rng.random((4, 3, 5), np.float32), "name": None}, {"score": CROSSED, "name": NO_NAME})
      for function in (jaxinfl.variance_components, statistics.subset_share_intervals, statistics.subset_share_of_all)),
    Call(statistics.pair_uncertainty,
         _given | {"train_index": pairs[0], "test_index": pairs[1], "confidence": 0.9, "interval": "welch"},
         _score | {"train_index": INDICES, "test_index": INDICES.but("no rows"), "confidence": share(), "interval": CHOICE}),
    Call(statistics.memorization_uncertainty, {"masks": masks, "train_score": train_correct, "confidence": 0.9},
         {"masks": MASKS, "train_score": MASKS.but("floats"), "confidence": share()}),
    Call(statistics.newcombe_interval, _sides, _side_kinds),
    Call(statistics.agresti_caffo_interval, _sides, _side_kinds),
    Call(statistics.newcombe_paired_interval, {"first": correct, "second": ~correct, "confidence": 0.9},
         {"first": MASKS, "second": MASKS, "confidence": share()}),
    Call(jaxinfl.Dataset, _arrays, _array_kinds),
    Call(jaxinfl.Dataset, _table, _table_kinds),
    Call(jaxinfl.channel_statistics, {"data": data}, {"data": NOTHING_ELSE}),
    Call(jaxinfl.load_dataset, {"name": "digits", "data_dir": None, "image_size": None, "splits": None, "background": None},
         {"name": PATH.but(none=constant(None), nul=constant("a\0b.npz")), "data_dir": PATH,
          "image_size": Kind({name: change for name, change in whole(1, 4096).broken.items() if name not in ("none", "fraction", "array")}),
          "splits": NOTHING_ELSE.but("none"), "background": CHOICE_OF_BACKGROUND}),
    Call(jaxinfl.Recipe, _recipe, _recipe_kinds),
    Call(jaxinfl.ModelKeys, {"init": keys, "order": keys, "augment": keys}, {"init": KEYS, "order": KEYS, "augment": KEYS}),
    Call(recipes.stored_side, {"crop": 224}, {"crop": whole(1, 4096)}),
    Call(jaxinfl.train_ensemble, _run, _run_kinds, runs=False),
    Call(
        jaxinfl.training_cost,
        {name: _run[name] for name in _costs},
        {name: _run_kinds[name] for name in _costs},
        runs=False,
    ),
    Call(jaxinfl.predict, _again | {"weights": weights, "views": "one"}, _again_kinds, runs=False),
    Call(jaxinfl.Ensemble.from_scores,
         {"masks": masks, "train": {"right": train_correct}, "test": {"right": correct}, "data": None},
         {"masks": MASKS, "train": SCORES_BY_NAME, "test": SCORES_BY_NAME, "data": NOTHING_ELSE.but("none")}),
    Call(scores_given.save, {"path": "runs"}, {"path": PATH.but(none=constant(None))}, runs=False),
    Call(jaxinfl.Ensemble.open, {"run_dir": "nowhere"}, {"run_dir": PATH.but(none=constant(None))}, runs=False),
]  # fmt: skip
