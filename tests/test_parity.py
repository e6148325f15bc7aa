"""The networks against independent implementations in PyTorch with the same weights: torchvision's where it has one.

Ours runs in float32, by the convolution that training uses; PyTorch runs in float64 and is taken for the truth, so that
what is measured is our error alone. Errors are relative to the largest absolute value of each tensor: single numbers near
0 are sums that cancel, of which no float32 program gets four digits. `-s` shows the largest error of each.

A number within float32's error of a kink (0 in a ReLU, two equal maxima in a pool) moves a whole term of the gradient:
among 40 million numbers some always are, and a float32 gradient is then up to 0.1 of a tensor's largest away from the
float64 one. In training the truth therefore takes the sides that our pass took, and how many of these are not its own is
checked. What then is left exceeds 1e-4 for the gradient of Inception v3 alone, as it does for PyTorch's own float32 pass
over the same sides: a gradient may be off by 1e-4, or by twice what PyTorch's float32 is.

    pip install -e '.[test,torchvision]'
    pytest -s tests/test_parity.py
"""

import copy
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinfl import Recipe, native
from jaxinfl.models import InceptionV3, ResNet18, SmallInception, Variables, model_from_nnx
from jaxinfl.models.layers import max_pool, use_kernels
from jaxinfl.training import step
from tests.from_torchvision import build_in_order, params_of, stats_of

torchvision = pytest.importorskip("torchvision", reason="torchvision is not installed: pip install -e '.[torchvision]'")
torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[torchvision]'")

CLASSES = 7
TOLERANCE = 1e-4
# Without dropout, whose draws differ.
NETWORKS = {
    "resnet18": ((224, 224, 3), ResNet18),
    "resnet18_cifar": ((32, 32, 3), partial(ResNet18, stem="small")),
    "inception_v3": ((299, 299, 3), partial(InceptionV3, dropout=0.0)),
    "small_inception": ((32, 32, 3), SmallInception),
}
BATCH = 4
KERNELS = "gemm" if native.why_unavailable() else "native"


class TorchSmallInception(torch.nn.Module):
    """Feldman and Zhang's network, written after their program; SAME padding as TensorFlow defines it."""

    def __init__(self):
        super().__init__()
        self.first = self.unit(3, 96, 3)
        self.blocks, channels = torch.nn.ModuleList(), 96
        for kind, *sizes in (
            *(("block", 32, 32), ("block", 32, 48), ("down", 160)),
            *(("block", 112, 48), ("block", 96, 64), ("block", 80, 80), ("block", 48, 96), ("down", 240)),
            *(("block", 176, 160), ("block", 176, 160)),
        ):
            windows = (1, 3) if kind == "block" else (3,)
            self.blocks.append(
                torch.nn.ModuleList([self.unit(channels, n, k) for n, k in zip(sizes, windows, strict=True)])
            )
            channels = sum(sizes)
        self.fc = torch.nn.Linear(channels, CLASSES)

    @staticmethod
    def unit(inputs, outputs, window):
        norm = torch.nn.BatchNorm2d(outputs, eps=1e-5, momentum=1.0)  # free of its start, one batch is the average
        return torch.nn.ModuleList([torch.nn.Conv2d(inputs, outputs, window, bias=False), norm])

    @staticmethod
    def run(unit, x, stride=1):
        conv, norm = unit
        sides = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + conv.kernel_size[0] - size, 0)
            sides += [total // 2, total - total // 2]
        x = torch.nn.functional.pad(x, sides)
        return torch.nn.functional.relu(norm(torch.nn.functional.conv2d(x, conv.weight, stride=stride)))

    def forward(self, x):
        x = self.run(self.first, x)
        for block in self.blocks:
            stride = 2 if len(block) == 1 else 1
            x = torch.cat([self.run(unit, x, stride) for unit in block], 1)
        return self.fc(x.amax((2, 3)))


def torch_network(name):
    """Build torchvision's network in float64, with weights and statistics that no two layers share."""
    torch.manual_seed(0)
    if name == "small_inception":
        module = TorchSmallInception()
    elif name == "inception_v3":
        module = torchvision.models.inception_v3(
            weights=None, num_classes=CLASSES, aux_logits=True, transform_input=False, init_weights=True, dropout=0.0
        )
    else:
        module = torchvision.models.resnet18(num_classes=CLASSES)
        if name == "resnet18_cifar":
            module.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
            module.maxpool = torch.nn.Identity()
    for part in module.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(part.weight, 0.5, 1.5)
            torch.nn.init.normal_(part.bias, std=0.2)
            torch.nn.init.normal_(part.running_mean, std=0.2)
            torch.nn.init.uniform_(part.running_var, 0.5, 1.5)
    return module.double()


@pytest.fixture(scope="module", params=[pytest.param(name, marks=pytest.mark.slow) for name in sorted(NETWORKS)])
def network(request):
    """Name, our model, PyTorch's module, images and labels, and the carried variables."""
    shape, kind = NETWORKS[request.param]
    model = model_from_nnx(lambda rngs: kind(shape, CLASSES, rngs=rngs), inputs=shape, outputs=CLASSES)
    ours = build_in_order(lambda: kind(shape, CLASSES, rngs=nnx.Rngs(0)))
    theirs = torch_network(request.param)
    rng = np.random.default_rng(0)
    # Each image has 25 tiles: images that differ keep batch norm's variances away from 0, which noise does not.
    tiles, size = rng.standard_normal((BATCH, 5, 5, 3)), -(-shape[0] // 5)
    images = tiles.repeat(size, 1).repeat(size, 2)[:, : shape[0], : shape[1]].astype(np.float32)
    return request.param, model, ours, theirs, images, rng.integers(0, CLASSES, BATCH)


def carried(ours, theirs):
    variables = Variables(params_of(ours, theirs, lambda weight: weight.detach()), stats_of(ours, theirs))
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), variables)


def error(ours, truth):
    """Largest over the tensors of two trees."""
    assert jax.tree.structure(ours) == jax.tree.structure(truth)
    return max(jax.tree.leaves(jax.tree.map(relative_error, ours, truth)))


def relative_error(ours, truth):
    truth = np.asarray(truth, np.float64)
    return float(np.abs(np.asarray(ours, np.float64) - truth).max() / np.abs(truth).max())


def as_torch(images):
    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy()).double()


def report(name, mode, errors, bounds=None):
    print(f"\n{name:16} {mode:5} ({KERNELS}): " + ", ".join(f"{what} {value:.1e}" for what, value in errors.items()))
    for what, value in errors.items():
        assert value < TOLERANCE or value < (bounds or {}).get(what, 0.0), what


def test_evaluation(network):
    name, model, ours, theirs, images, _ = network
    theirs.eval()
    with torch.no_grad():
        truth = theirs(as_torch(images)).numpy()
    with use_kernels(KERNELS):
        logits, _ = jax.jit(partial(model.apply, train=False))(carried(ours, theirs), jnp.asarray(images))
    report(name, "eval", {"logits": error(logits, truth)})


class Sides:
    """A record of the side of each kink on which a pass of ours was, and PyTorch's functions that follow it."""

    def __init__(self, monkeypatch):
        self.recorded, self.patch = [], monkeypatch
        self.differing, self.total = 0, 0

    def record(self):
        relu = jax.nn.relu

        def recording_relu(x):
            self.recorded.append(x > 0)
            return relu(x)

        def recording_max_pool(x, window, *, stride, padding=0):
            padded = jnp.pad(
                x, ((0, 0), (padding, padding), (padding, padding), (0, 0)), constant_values=np.float32(-np.inf)
            )
            rows, columns = ((size - window) // stride + 1 for size in padded.shape[1:3])
            taps = [
                padded[:, i : i + stride * (rows - 1) + 1 : stride, j : j + stride * (columns - 1) + 1 : stride]
                for i in range(window)
                for j in range(window)
            ]
            self.recorded.append(jnp.argmax(jnp.stack(taps), axis=0))
            return max_pool(x, window, stride=stride, padding=padding)

        self.patch.setattr(jax.nn, "relu", recording_relu)
        for module in ("resnet", "inception_v3"):
            self.patch.setattr(f"jaxinfl.models.networks.{module}.max_pool", recording_max_pool)
        return self.recorded

    def follow(self, recorded):
        recorded = (torch.from_numpy(np.asarray(side)[:BATCH].transpose(0, 3, 1, 2).copy()) for side in recorded)

        def count(own, side):
            self.differing += int((own != side).sum())
            self.total += own.numel()

        def relu(x, inplace=False):
            side = next(recorded)
            count(x > 0, side)
            return x * side

        def max_pool2d(x, kernel_size, stride, padding=0, *_, **__):
            x = torch.nn.functional.pad(x, (padding,) * 4, value=-torch.inf)
            windows = x.unfold(2, kernel_size, stride).unfold(3, kernel_size, stride).flatten(4)
            side = next(recorded)
            count(windows.argmax(4), side)
            return windows.gather(4, side.long()[..., None])[..., 0]

        for function in (relu, max_pool2d):
            self.patch.setattr(torch.nn.functional, function.__name__, function)


def test_training(network, monkeypatch):
    """Logits, gradient of the loss and running statistics; a row that only fills up the batch takes no part."""
    name, model, ours, theirs, images, labels = network
    variables, sides = carried(ours, theirs), Sides(monkeypatch)
    filled = jnp.concatenate([jnp.asarray(images), 100 * jnp.ones((1, *images.shape[1:]))])
    counted, targets = jnp.arange(BATCH + 1) < BATCH, jnp.asarray([*labels, 0], jnp.int32)

    def objective(params):
        recorded = sides.record()
        output, stats = model.apply(Variables(params, variables.stats), filled, train=True, mask=counted)
        loss = step._total_loss(step.Training(model, Recipe()), output, targets, counted) / BATCH
        return loss, (jax.tree.leaves(output), stats, recorded)

    with use_kernels(KERNELS):
        values, grads = jax.jit(jax.value_and_grad(objective, has_aux=True))(variables.params)
    value, (logits, stats, recorded) = values
    single = copy.deepcopy(theirs).float()
    sides.follow(recorded)
    heads, loss = backward(theirs, as_torch(images), labels)
    truth = params_of(ours, theirs, lambda weight: weight.grad)
    errors = {
        "logits": error([part[:BATCH] for part in logits], [part.detach().numpy() for part in heads]),
        "loss": error(value, loss.detach().numpy()),
        "gradient": error(grads, truth),
        "statistics": error(stats, stats_of(ours, theirs)),
        "sides that differ": sides.differing / sides.total,
    }
    bounds = {}
    if errors["gradient"] > TOLERANCE:
        sides.follow(recorded)
        backward(single, as_torch(images).float(), labels)
        own = error(params_of(ours, single, lambda weight: weight.grad), truth)
        print(f"\n{name:16} PyTorch's own gradient in float32: {own:.1e}", end="")
        bounds = {"gradient": 2 * own}
    report(name, "train", errors, bounds)


def backward(module, images, labels):
    """One pass in training mode; logits of each head and the loss."""
    module.train()
    module.zero_grad()
    heads = module(images)
    heads = heads if isinstance(heads, tuple) else (heads,)
    losses = [torch.nn.functional.cross_entropy(logits, torch.from_numpy(labels)) for logits in heads]
    loss = sum(weight * each for weight, each in zip((1.0, 0.4), losses, strict=False))
    loss.backward()
    return heads, loss


def test_parameters(network):
    _, model, _, theirs, *_ = network
    assert model.num_params == sum(weight.numel() for weight in theirs.parameters())
