"""Many models at once: `train_ensemble` and what decides how each model is trained."""

from jaxinfl.training import recipes
from jaxinfl.training.cost import Cost
from jaxinfl.training.ensemble import train_ensemble, training_cost
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.limits import OutOfMemory, TooManyDiverged
from jaxinfl.training.predict import Predictions, predict
from jaxinfl.training.recall import recall_data, recall_model, recall_recipe
from jaxinfl.training.recipe import Recipe

__all__ = [
    "Cost",
    "ModelKeys",
    "OutOfMemory",
    "Predictions",
    "Recipe",
    "TooManyDiverged",
    "predict",
    "recall_data",
    "recall_model",
    "recall_recipe",
    "recipes",
    "train_ensemble",
    "training_cost",
]
