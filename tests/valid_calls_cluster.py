"""Calls of the functions that hand a run to other processes, none of which is started here."""

import jaxinfl
from tests.bad_inputs import CHOICE, NOT_NUMBERS, NOTHING_ELSE, PATH, SWITCH, Call, Kind, constant, whole
from tests.valid_calls import data, keys, masks

WORD = Kind({**NOT_NUMBERS, "number": constant(3), "list": lambda value, rng: [value]}).but("text")
"""Kind of text that may be any word."""
_job = jaxinfl.Job.make(masks, keys, data, "small_mlp", jaxinfl.Recipe())
_options = {
    "kind": "slurm", "partition": "gpu", "time": "4h", "gpus": 1, "cores": 4, "memory": "32GB", "account": "lab", "qos": "high",
    "constraint": "h100", "setup": ("module load cuda",), "on_interrupt": "leave", "retries": 3,
}  # fmt: skip
_option_kinds = {
    "kind": CHOICE.but("none"), "partition": WORD, "time": WORD, "gpus": whole(0, 10**6).but("none"),
    "cores": whole(1, 10**6).but("none"), "memory": WORD, "account": WORD, "qos": WORD, "constraint": WORD,
    "setup": NOTHING_ELSE, "on_interrupt": CHOICE.but("none"), "retries": whole(0, 1000),
}  # fmt: skip
CLUSTER = [
    Call(jaxinfl.Cluster, _options, _option_kinds, runs=False),
    Call(
        jaxinfl.train_on_cluster,
        {"job": _job, "run_dir": "runs", "jobs": 2, "cluster": "local", "tune": True, "mixed_devices": False, "progress": False},
        {"job": NOTHING_ELSE, "run_dir": PATH.but(), "jobs": whole(1), "cluster": CHOICE, "tune": SWITCH,
         "mixed_devices": SWITCH, "progress": SWITCH},
        runs=False,
    ),
]  # fmt: skip
