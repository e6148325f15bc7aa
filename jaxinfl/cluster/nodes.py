"""The nodes of a pool of Ray: which of them have a device to train on, and which gave their models back."""

import time
from dataclasses import dataclass
from typing import Any

from jaxinfl.cluster.errors import ClusterError
from jaxinfl.cluster.options import Cluster

_LOOK_EVERY = 2.0
"""Seconds between two looks at the list of nodes."""


@dataclass(frozen=True)
class Node:
    """A machine of the pool."""

    id: str
    name: str
    """Name or address of the machine."""
    places: int
    """Number of workers for which it has devices, busy or free."""


class Nodes:
    """The nodes that are there now, and how a worker is started on one of them."""

    def __init__(self, ray: Any, cluster: Cluster, *, of_ours: bool):
        self._ray, self._cluster = ray, cluster
        self._of_ours = of_ours
        """Whether the pool was started for this run, on this machine alone."""
        self._excluded: dict[str, str] = {}
        self._lost: set[str] = set()
        self._found: list[Node] = []
        self._looked = -_LOOK_EVERY
        self._asked = 0
        self.gpus = self._count_gpus()
        """Number of GPUs of each worker."""
        self.cores = cluster.cores or 1
        """Number of processor cores of each worker."""

    def _count_gpus(self) -> int:
        if self._cluster.gpus is not None:
            return self._cluster.gpus
        return int(any(node["Resources"].get("GPU", 0) >= 1 for node in self._ray.nodes() if node["Alive"]))

    def look(self) -> list[Node]:
        """The nodes that may train, those with the most devices first."""
        if time.monotonic() - self._looked >= _LOOK_EVERY:
            self._looked = time.monotonic()
            self._found = sorted(filter(None, map(self._as_node, self._ray.nodes())), key=lambda node: -node.places)
        return [node for node in self._found if node.id not in self._excluded]

    def check_hope(self) -> None:
        """Raise where there are nodes, and each of them gave its models back, or where this machine is the pool and has too little.

        Raises:
          ClusterError: none can train; the message has the reason of each.
        """
        if not self._found and self._of_ours:
            raise ClusterError(
                f"a worker takes {self.cores} cores and {self.gpus} GPUs, which the pool of Ray on this machine has not. Lower cluster cores "
                "and gpus, or name the address of a larger pool."
            )
        if self._found and all(node.id in self._excluded for node in self._found):
            reasons = "\n".join(f"{node.name}: {self._excluded[node.id]}" for node in self._found)
            raise ClusterError(f"No node of the pool can train these models:\n{reasons}")

    def _as_node(self, node: dict[str, Any]) -> Node | None:
        """A node that is alive and has a device; None of others."""
        has = node["Resources"]
        places = int(has.get("CPU", 0) // self.cores)
        if self.gpus:
            places = min(places, int(has.get("GPU", 0) // self.gpus))
        name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
        return Node(node["NodeID"], name, places) if node["Alive"] and places > 0 else None

    def start(self, worker: type, node: Node) -> Any:
        """Start a worker on a node; Ray shows it its own GPU alone."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return (
            self._ray.remote(worker)
            .options(
                num_cpus=self.cores,
                num_gpus=self.gpus,
                max_restarts=0,
                max_concurrency=2,  # one trains, and the other answers for checkpoints
                scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False),
            )
            .remote()
        )

    def exclude(self, node: Node, reason: str) -> None:
        """Give a node no more models."""
        self._excluded[node.id] = reason

    def note_loss(self, node: Node) -> int:
        """Count a worker that died: 1, or 0 where its node died and was counted."""
        if self.is_alive(node):
            return 1
        counted = node.id in self._lost
        self._lost.add(node.id)
        return 0 if counted else 1

    def is_alive(self, node: Node) -> bool:
        """Whether the pool still has a node."""
        self._looked = -_LOOK_EVERY
        return any(each["NodeID"] == node.id and each["Alive"] for each in self._ray.nodes())

    def ask_for(self, workers: int) -> None:
        """Tell a pool that grows by itself for how many workers it should have devices; others take no notice."""
        if workers == self._asked or self._cluster.address is None:
            return
        from ray.autoscaler.sdk import request_resources

        bundle = {"CPU": self.cores, **({"GPU": self.gpus} if self.gpus else {})}
        request_resources(bundles=[bundle] * workers)
        self._asked = workers


__all__ = ["Node", "Nodes"]
