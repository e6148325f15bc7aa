"""Training of many models at once: `train_ensemble`, and the recipes and keys that decide how each model is trained."""

from jaxinfl.training import recipes
from jaxinfl.training.cost import Cost
from jaxinfl.training.ensemble import cost_of_job, train_ensemble, training_cost
from jaxinfl.training.job import Job
from jaxinfl.training.machine import OutOfMemory
from jaxinfl.training.per_model import ModelKeys
from jaxinfl.training.predict import Predictions, predict, recall_data, recall_model, recall_recipe
from jaxinfl.training.recipe import Recipe
from jaxinfl.training.run import TooManyDiverged

__all__ = [
    "Cost",
    "Job",
    "ModelKeys",
    "OutOfMemory",
    "Predictions",
    "Recipe",
    "TooManyDiverged",
    "cost_of_job",
    "predict",
    "recall_data",
    "recall_model",
    "recall_recipe",
    "recipes",
    "train_ensemble",
    "training_cost",
]
