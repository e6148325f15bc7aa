"""The registered networks, with one file for each architecture."""

from jaxinfl.models.networks.inception_v3 import InceptionV3
from jaxinfl.models.networks.mlp import MLP
from jaxinfl.models.networks.resnet import ResNet18
from jaxinfl.models.networks.resnet9 import ResNet9
from jaxinfl.models.networks.small_cnn import SmallCNN
from jaxinfl.models.networks.small_inception import SmallInception
from jaxinfl.models.networks.transformer import Transformer

__all__ = ["MLP", "InceptionV3", "ResNet9", "ResNet18", "SmallCNN", "SmallInception", "Transformer"]
