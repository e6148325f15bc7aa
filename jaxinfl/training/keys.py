"""The random keys of an ensemble: one a model for each source of randomness."""

from dataclasses import dataclass, fields
from functools import cached_property

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True, eq=False)
class ModelKeys:
    """Keys of every model, by source of randomness; hold a source fixed by giving all models one key (Appendix C).

    Each field is an array of keys [models], as `jax.random.split(jax.random.key(seed), models)` returns it.
    """

    init: jax.Array
    """Initial weights."""
    order: jax.Array
    """Order of the examples in each epoch."""
    augment: jax.Array
    """Crops, flips, dropout."""

    def __post_init__(self) -> None:
        for source in fields(self):
            object.__setattr__(self, source.name, as_keys(getattr(self, source.name), f"keys.{source.name}"))
        lengths = {source.name: len(getattr(self, source.name)) for source in fields(self)}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"keys: the sources have different numbers of keys, {lengths}; each takes one a model.")

    def __len__(self) -> int:
        return len(self.init)

    def __getitem__(self, rows: slice | np.ndarray) -> "ModelKeys":
        return ModelKeys.of_data(self.data()[rows])

    @classmethod
    def of_data(cls, data: np.ndarray) -> "ModelKeys":
        """The keys of which `data()` gives the numbers."""
        return cls(*(jax.random.wrap_key_data(jnp.asarray(data[:, source])) for source in range(3)))

    @classmethod
    def split(cls, keys: object) -> "ModelKeys":
        """The three keys of each model, from one key a model; a `ModelKeys` is returned as it is."""
        if isinstance(keys, cls):
            return keys
        init, order, augment = jax.vmap(lambda key: jax.random.split(key, 3))(as_keys(keys, "keys")).T
        return cls(init, order, augment)

    def data(self) -> np.ndarray:
        """The keys as plain numbers, uint32 [models, 3, words]: what a run directory keeps."""
        return self._data

    @cached_property
    def _data(self) -> np.ndarray:
        # On the host, where taking some of them compiles nothing: indexing arrays of keys takes six small programs.
        parts = [jax.random.key_data(getattr(self, source.name)) for source in fields(self)]
        return np.stack([np.asarray(part) for part in parts], axis=1)


def as_keys(keys: object, name: str) -> jax.Array:
    """Typed keys [models]; raw uint32 [models, 2] of `jax.random.PRNGKey` are taken too."""
    if not isinstance(keys, (jax.Array, np.ndarray)):
        raise TypeError(
            f"{name} is {type(keys).__name__}; it takes an array of keys, one a model: "
            "jax.random.split(jax.random.key(0), num_models)."
        )
    array: jax.Array | np.ndarray = keys
    if not jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        if array.dtype != np.uint32 or array.ndim != 2 or array.shape[1] != 2:
            raise TypeError(
                f"{name} has dtype {array.dtype} and shape {array.shape}; it takes one key a model: "
                "jax.random.split(jax.random.key(0), num_models)."
            )
        array = jax.random.wrap_key_data(jnp.asarray(array))
    implementation = str(jax.random.key_impl(jnp.asarray(array)))
    if "fry" not in implementation:
        raise ValueError(
            f"{name} are of the implementation {implementation}; it takes threefry2x32, JAX's default: under vmap the "
            "draws of the others depend on the neighbours. Make them by "
            "jax.random.split(jax.random.key(seed, impl='threefry2x32'), num_models)."
        )
    if array.ndim != 1:
        raise ValueError(
            f"{name} has shape {array.shape}; it takes one key a model, shape [models]: "
            "jax.random.split(jax.random.key(0), num_models)."
        )
    if not len(array):
        raise ValueError(f"{name} is empty; it takes one key a model, at least one.")
    return jnp.asarray(array)


__all__ = ["ModelKeys", "as_keys"]
