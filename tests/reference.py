"""References for the kernels: slow float64 loops over plain Python numbers, which share no code with the kernels."""

import math
from collections.abc import Sequence

import numpy as np


def joint_counts(masks: np.ndarray, correct: np.ndarray) -> np.ndarray:
    """Number of models trained on i and right on j, [train, test]."""
    counts = np.zeros((masks.shape[1], correct.shape[1]), int)
    for model in range(len(masks)):
        for i in range(masks.shape[1]):
            for j in range(correct.shape[1]):
                if masks[model, i] and correct[model, j]:
                    counts[i, j] += 1
    return counts


def difference_of_means(members: Sequence[bool], score: Sequence[float]) -> float:
    """Mean score of the members minus mean score of the others; NaN where there are no members or no others."""
    inside = [float(value) for member, value in zip(members, score, strict=True) if member]
    outside = [float(value) for member, value in zip(members, score, strict=True) if not member]
    if not inside or not outside:
        return math.nan
    return math.fsum(inside) / len(inside) - math.fsum(outside) / len(outside)


def influence(masks: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Influence by definition, [train, test]: Section 2.3 of the paper, step 3."""
    return np.array([[difference_of_means(column, values) for values in score.T] for column in masks.T])


def memorization(masks: np.ndarray, train_score: np.ndarray) -> np.ndarray:
    """Memorization by definition, [train]: influence of an example on itself."""
    columns = zip(masks.T, train_score.T, strict=True)
    return np.array([difference_of_means(column, values) for column, values in columns])


def iou(influence_a: np.ndarray, influence_b: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """IOU by definition, [thresholds]: sets of pairs, Section 2.3.1."""
    curve = []
    for threshold in thresholds:
        chosen_a, chosen_b = set(), set()
        for pair in np.ndindex(influence_a.shape):
            a, b = float(influence_a[pair]), float(influence_b[pair])
            if math.isnan(a) or math.isnan(b):
                continue
            if a >= threshold:
                chosen_a.add(pair)
            if b >= threshold:
                chosen_b.add(pair)
        union = chosen_a | chosen_b
        curve.append(len(chosen_a & chosen_b) / len(union) if union else math.nan)
    return np.array(curve)


def top_pairs(
    masks: np.ndarray, train_score: np.ndarray, test_score: np.ndarray, k: int, min_memorization: float | None
) -> list[tuple[float, int, int]]:
    """List (influence, train, test) of the k most influential pairs; equal ones come by rising indices."""
    own, everything = memorization(masks, train_score), influence(masks, test_score)
    pairs = []
    for i in range(everything.shape[0]):
        if min_memorization is not None and not own[i] > min_memorization:
            continue
        for j in range(everything.shape[1]):
            if not math.isnan(everything[i, j]):
                pairs.append((float(everything[i, j]), i, j))
    return sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:k]


def margin(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Margin log(p_y / (1 - p_y)) in float64, from the softmax's numerators scaled by the largest."""
    result = []
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        others = [value for k, value in enumerate(row) if k != label]
        top = max(others)
        result.append(row[label] - top - math.log(sum(math.exp(value - top) for value in others)))
    return np.array(result)


def same_padding(size: int, window: int, stride: int) -> tuple[int, int]:
    """TensorFlow's SAME padding: there are as many outputs as strides fit, and an odd pixel of padding comes behind."""
    total = max((math.ceil(size / stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def convolution(
    images: np.ndarray, kernel: np.ndarray, strides: tuple[int, int], padding: Sequence[tuple[int, int]]
) -> np.ndarray:
    """Cross-correlation of images [batch, h, w, c] with a kernel [kh, kw, c, features]."""
    padded = np.pad(images.astype(np.float64), ((0, 0), *padding, (0, 0)))
    kh, kw = kernel.shape[:2]
    rows = range(0, padded.shape[1] - kh + 1, strides[0])
    columns = range(0, padded.shape[2] - kw + 1, strides[1])
    out = np.zeros((len(images), len(rows), len(columns), kernel.shape[-1]))
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            window = padded[:, row : row + kh, column : column + kw]
            out[:, y, x] = np.einsum("bijc,ijco->bo", window, kernel.astype(np.float64))
    return out


def random_resized_crop(rng: np.random.Generator, height: int, width: int) -> tuple[int, int, int, int]:
    """Draw (top, left, height, width) of torchvision's RandomResizedCrop with its default scale and ratio."""
    for _ in range(10):
        area = height * width * rng.uniform(0.08, 1.0)
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1)), h, w
    if width / height < 3 / 4:
        w, h = width, round(width / (3 / 4))
    elif width / height > 4 / 3:
        w, h = round(height * (4 / 3)), height
    else:
        w, h = width, height
    return (height - h) // 2, (width - w) // 2, h, w


def resize(window: np.ndarray, side: int) -> np.ndarray:
    """Resize [h, w, c] to [side, side, c] by Pillow's bilinear filter, a triangle as wide as the pixels it stands for."""

    def line(values: np.ndarray) -> np.ndarray:
        scale = len(values) / side
        width = max(scale, 1.0)
        results = []
        for x in range(side):
            center = (x + 0.5) * scale
            weights = np.array([max(0.0, 1 - abs(k + 0.5 - center) / width) for k in range(len(values))])
            results.append(np.tensordot(weights / math.fsum(weights), values, axes=1))
        return np.array(results)

    rows = line(window.astype(np.float64))
    return np.swapaxes(line(np.swapaxes(rows, 0, 1)), 0, 1)


def _normal_log_density(value: float, center: float, deviation: float) -> float:
    deviation += 1e-30
    return -0.5 * ((value - center) / deviation) ** 2 - math.log(deviation) - 0.5 * math.log(2 * math.pi)


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _deviation(values: Sequence[float]) -> float:
    # Equal numbers have none, which a sum of rounded squares would not say.
    if len(set(values)) == 1:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / len(values))


def _shadow_scores(masks: np.ndarray, score: np.ndarray, target: int | None, example: int, inside: bool) -> list[float]:
    """Scores of one example by the models of one side: without the target's, or where it is of the other side without the last one."""
    models = [model for model in range(len(masks)) if bool(masks[model, example]) == inside]
    if target is not None:
        models = [model for model in models if model != target] if target in models else models[:-1]
    return [float(score[model, example]) for model in models]


def likelihood_ratio(
    masks: np.ndarray,
    score: np.ndarray,
    targets: np.ndarray | None = None,
    *,
    offline: str | None = None,
    deviation: str = "example",
) -> np.ndarray:
    """LiRA by its definition, [targets, examples]; each model is the target once where `targets` is None."""
    number = len(masks) if targets is None else len(targets)
    examples = range(masks.shape[1])
    result = np.full((number, masks.shape[1]), math.nan)
    for target in range(number):
        left_out = target if targets is None else None
        sides = [
            [_shadow_scores(masks, score, left_out, example, inside) for example in examples]
            for inside in (True, False)
        ]
        if deviation == "all_scores":
            every = [value for values in sides[1 if offline else 0] for value in values]
            common = [_deviation(every) if every else math.nan] * 2
        elif deviation == "residuals":
            residuals = [[value - _median(values) for values in side for value in values] for side in sides]
            common = [_deviation(every) if every else math.nan for every in residuals]
        for example in examples:
            inside, outside = sides[0][example], sides[1][example]
            fewest = 2 if deviation == "example" else 1
            if len(outside) < fewest or not (len(inside) >= fewest or offline):
                continue
            value = float((score if targets is None else targets)[target, example])
            spread = [_deviation(each) if each else math.nan for each in (inside, outside)]
            if deviation != "example":
                spread = common
            if offline == "upper_tail":
                away = (value - _median(outside)) / (spread[1] + 1e-30)
                tail = 0.5 * math.erfc(away / math.sqrt(2))
                result[target, example] = math.inf if tail == 0 else -math.log(tail)
                continue
            out = _normal_log_density(value, _median(outside), spread[1])
            if offline:
                result[target, example] = -out
            else:
                result[target, example] = _normal_log_density(value, _median(inside), spread[0]) - out
    return result


def population_ratio(
    masks: np.ndarray, score: np.ndarray, population: np.ndarray, *, offline: float | None, gamma: float
) -> np.ndarray:
    """RMIA by its definition, [models, examples], each model as the target once."""

    def approximate(mean: float) -> float:
        return mean if offline is None else ((1 + offline) * mean + 1 - offline) / 2

    result = np.full(masks.shape, math.nan)
    for target in range(len(masks)):
        others = [model for model in range(len(masks)) if model != target]
        compared = [
            float(population[target, z])
            / approximate(math.fsum(float(population[model, z]) for model in others) / len(others))
            for z in range(population.shape[1])
        ]
        for example in range(masks.shape[1]):
            inside = _shadow_scores(masks, score, target, example, True)
            outside = _shadow_scores(masks, score, target, example, False)
            if not outside or not (inside or offline is not None):
                continue
            mean = math.fsum(outside) / len(outside)
            probability = approximate(mean) if offline is not None else (math.fsum(inside) / len(inside) + mean) / 2
            ratio = float(score[target, example]) / probability
            result[target, example] = sum(ratio / other > gamma for other in compared) / len(compared)
    return result
