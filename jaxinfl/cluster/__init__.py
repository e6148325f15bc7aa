"""Training by many processes: on this machine, as jobs of Slurm by submitit, or in a pool of Ray."""

from jaxinfl.cluster.errors import ClusterError
from jaxinfl.cluster.options import Cluster
from jaxinfl.cluster.train import complete_on_cluster, train_on_cluster

__all__ = ["Cluster", "ClusterError", "complete_on_cluster", "train_on_cluster"]
