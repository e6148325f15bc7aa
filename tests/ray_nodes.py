"""A real cluster of Ray in processes of this machine, for tests: a process without JAX starts and ends its nodes.

Ray forks the process that starts a node, of which JAX would warn. Each line of the input is a command: `add [PYTHONPATH]` and
`remove NUMBER`; each is answered by a line.
"""

import subprocess
import sys

CORES = 1
"""Number of processor cores that each node says it has."""


class RayNodes:
    """The nodes, from the side of a test; node 0 is the head, which trains nothing."""

    def __init__(self, environment):
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
        self.address = self._answer()

    def add(self, path=""):
        """Add a node whose workers find modules in a folder; returns its number."""
        return int(self._ask(f"add {path}"))

    def remove(self, node):
        """Kill a node with all of its processes."""
        self._ask(f"remove {node}")

    def close(self):
        self._process.communicate()

    def _ask(self, command):
        print(command, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self):
        for line in self._process.stdout:
            if line.startswith("answer "):
                return line.removeprefix("answer ").strip()
        raise RuntimeError("the cluster of Ray has ended")


def main():
    from ray.cluster_utils import Cluster

    def node(cores, path=""):
        found = {"env_vars": {"PYTHONPATH": path}} if path else {}
        return {"num_cpus": cores, "node_ip_address": "127.0.0.1", "object_store_memory": 10**8, **found}

    cluster = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **node(0)})
    nodes = [cluster.head_node]
    print(f"answer {cluster.address}", flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        if command == "add":
            nodes.append(cluster.add_node(**node(CORES, argument)))
            print(f"answer {len(nodes) - 1}", flush=True)
        else:
            cluster.remove_node(nodes[int(argument)], allow_graceful=False)
            print("answer removed", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main()
