"""Many models at once: `train_ensemble` and what decides how each model is trained."""

from jaxinfl.training import recipes
from jaxinfl.training.ensemble import train_ensemble
from jaxinfl.training.keys import ModelKeys
from jaxinfl.training.plan import RunPlan
from jaxinfl.training.predict import Predictions, predict
from jaxinfl.training.recipe import Recipe

__all__ = ["ModelKeys", "Predictions", "Recipe", "RunPlan", "predict", "recipes", "train_ensemble"]
