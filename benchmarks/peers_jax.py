"""Contenders in JAX: how to time one, the trainers that anyone would write first, and the machine's GEMM rate."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from benchmarks.networks import MOMENTUM, Network, prepare_inputs
from jaxinfl import Dataset


class Contender(Protocol):
    """Something that trains in JAX."""

    steps: float
    """Training steps of one call of `run`, all models together."""

    def restart(self) -> None:
        """Begin with new models."""

    def run(self) -> Array:
        """Start some training and return its losses, which need not be computed yet."""


def steps_per_second(contender: Contender, seconds: float) -> Callable[[], float]:
    """A measurement of about so many seconds; its first call compiles and finds out how many calls these are."""
    calls = 0

    def measure_seconds(number: int) -> float:
        contender.restart()
        begun = time.perf_counter()
        for _ in range(number):
            losses = contender.run()
        jax.block_until_ready(losses)
        elapsed = time.perf_counter() - begun
        if not np.isfinite(np.asarray(losses)).all():
            raise FloatingPointError(f"{type(contender).__name__} has diverged: losses {losses}")
        return elapsed

    def measure() -> float:
        nonlocal calls
        if not calls:
            measure_seconds(1)
            tried, elapsed = 1, measure_seconds(1)
            while elapsed < seconds / 8:
                tried *= 2
                elapsed = measure_seconds(tried)
            calls = max(1, round(tried * seconds / elapsed))
            return tried * contender.steps / elapsed
        return calls * contender.steps / measure_seconds(calls)

    return measure


class _Carry(NamedTuple):
    params: PyTree[Array]
    stats: PyTree[Array]
    momentum: PyTree[Array]
    key: Array


class StockTrainer:
    """Flax's layers (`lax.conv`, `jnp.dot`) and Optax, on one device with all its threads.

    A Python loop of jitted steps, of one model or under `jax.vmap`; or, with `looped` steps a call, their loop jitted
    too. On a CPU that makes networks with convolutions some 10 times slower (jax 0.10.2), because inside loops XLA
    computes these otherwise, and no others. Each step draws its batch from the floats in memory, as PyTorch's does.
    """

    def __init__(self, network: Network, data: Dataset, *, models: int | None = None, looped: int | None = None):
        self.steps = float((models or 1) * (looped or 1))
        self._optimizer = optax.sgd(network.learning_rate, MOMENTUM)
        self._network, self._batch_size = network, network.batch_size
        self._graph, _, _ = _split(nnx.eval_shape(lambda: network.module(nnx.Rngs(0))))
        init: Any = self._init
        train: Any = self._step if looped is None else self._train
        keys = jax.random.key(0)
        if models is not None:
            init, train = jax.vmap(init), jax.vmap(train, in_axes=(0, *[None] * (2 if looped is None else 3)))
            keys = jax.random.split(keys, models)
        # The keys are placed too: else the first step's models are, to JAX, elsewhere than the second's: compiled twice.
        rest = (prepare_inputs(data), data.train_targets, *([] if looped is None else [np.int32(looped)]))
        self._keys, self._rest = jax.device_put((keys, rest), jax.devices()[0])
        self._jitted_init, self._jitted_train = jax.jit(init), jax.jit(train, donate_argnums=0)

    def restart(self) -> None:
        """New models, from the same keys."""
        self._carry = jax.block_until_ready(self._jitted_init(self._keys))

    def run(self) -> Array:
        """One step, or `looped` of them."""
        self._carry, loss = self._jitted_train(self._carry, *self._rest)
        return loss

    def _init(self, key: Array) -> _Carry:
        _, params, stats = _split(self._network.module(nnx.Rngs(key)))
        return _Carry(params, stats, self._optimizer.init(params), key)

    def _step(self, carry: _Carry, inputs: Array, labels: Array) -> tuple[_Carry, Array]:
        key, draw = jax.random.split(carry.key)
        index = jax.random.randint(draw, (self._batch_size,), 0, len(inputs))

        def loss_of(params: PyTree[Array]) -> tuple[Array, PyTree[Array]]:
            module = nnx.merge(self._graph, params, carry.stats, copy=True)
            losses = optax.softmax_cross_entropy_with_integer_labels(module(inputs[index]), labels[index])
            return losses.mean(), _split(module)[2]

        (loss, stats), grads = jax.value_and_grad(loss_of, has_aux=True)(carry.params)
        updates, momentum = self._optimizer.update(grads, carry.momentum)
        return _Carry(optax.apply_updates(carry.params, updates), stats, momentum, key), loss

    def _train(self, carry: _Carry, inputs: Array, labels: Array, steps: Array) -> tuple[_Carry, Array]:
        def step(_: Array, last: tuple[_Carry, Array]) -> tuple[_Carry, Array]:
            return self._step(last[0], inputs, labels)

        return jax.lax.fori_loop(0, steps, step, (carry, jnp.float32(0)))


def _split(module: nnx.Module) -> tuple[Any, PyTree[Array], PyTree[Array]]:
    """Graph, parameters and all other state."""
    parts: Any = nnx.split(module, nnx.Param, ...)
    return parts


class Gemm:
    """The product of two float32 matrices on every device at once, at JAX's default precision, which training has too.

    `steps` is such that its rate is that of training steps in which the same FLOPs took no longer than in the products.
    """

    PRODUCTS = 8
    """Products of one call, each of the last one's result: calls of one product would time the calls on a GPU."""

    def __init__(self, step_flops: int, *, size: int = 1024):
        devices = jax.devices()
        self.steps = len(devices) * self.PRODUCTS * 2 * size**3 / step_flops
        mesh = Mesh(np.asarray(devices), ("devices",))
        each = PartitionSpec("devices")

        def products(left: Array, right: Array) -> Array:
            return jax.lax.fori_loop(0, self.PRODUCTS, lambda _, x: x @ right[0], left[0])[None]

        self._products = jax.jit(jax.shard_map(products, mesh=mesh, in_specs=(each, each), out_specs=each))
        # Scaled so that products of products keep their size.
        matrices = np.random.default_rng(0).normal(0, size**-0.5, (len(devices), size, size)).astype(np.float32)
        self._matrices = jax.device_put(jnp.asarray(matrices), NamedSharding(mesh, each))

    def restart(self) -> None:
        """Nothing is kept."""

    def run(self) -> Array:
        """The products, in place of losses."""
        return self._products(self._matrices, self._matrices)
