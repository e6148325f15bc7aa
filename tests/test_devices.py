"""Importing jaxinfl puts one CPU device on each core, unless the user chose."""

import os
import subprocess
import sys

import pytest

from jaxinfl.devices import num_cores


def printed(code: str, **environment: str) -> str:
    variables = {name: value for name, value in os.environ.items() if name not in ("JAX_NUM_CPU_DEVICES", "XLA_FLAGS")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=variables | environment,
        timeout=120,
        check=True,
    )
    return done.stdout.strip() + done.stderr.strip()


def test_one_device_a_core():
    assert printed("import jaxinfl, jax; print(jax.device_count())") == str(num_cores())


@pytest.mark.parametrize(
    "environment", [{"JAX_NUM_CPU_DEVICES": "3"}, {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}]
)
def test_the_users_choice_stands(environment):
    assert printed("import jaxinfl, jax; print(jax.device_count())", **environment) == "3"


def test_a_late_import_is_said_when_it_costs_something():
    code = "import jax; jax.devices(); import jaxinfl; from jaxinfl.devices import unused_cores; print(unused_cores())"
    assert printed(code) == str(num_cores() - 1)
