"""The skeleton of every experiment: options, data, ensembles, analysis, results. An experiment fills in what is its own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic

import jax

from experiments.command_line import Config, Mistake, NothingMore, console, load, parse
from experiments.data_kinds import describe_data, standardized, takes_right_or_wrong
from experiments.ensembles import Request, Runs, carry_out, print_costs
from experiments.outcome import Outcome, publish
from jaxinfl import Dataset
from jaxinfl.cli.execute import INTERRUPTED, MENDABLE, MENDABLE_ERRORS
from jaxinfl.compilation_cache import use_compilation_cache
from jaxinfl.provenance import command
from jaxinfl.training.interrupts import Interrupted


def tell(run: Callable[[], object]) -> int:
    """Call a function, and return the exit status: 0 when it is done, 2 for what the user can mend, 130 after an interrupt."""
    try:
        run()
    except NothingMore:
        pass
    except (Mistake, *MENDABLE_ERRORS) as error:
        console.print(f"error: {error}", style="bold red", markup=False)
        return MENDABLE
    except Interrupted:  # which has said how to go on
        return INTERRUPTED
    except KeyboardInterrupt:
        console.print(f"\nTo go on: {command()}", markup=False, soft_wrap=True)  # to be copied
        return INTERRUPTED
    return 0


@dataclass(frozen=True)
class Experiment(Generic[Config]):
    """One claim that is tried on trained models. `config` is what the command line, or a test, asks for."""

    name: str
    """Name of its module in `experiments`, and of the folder of its results."""
    question: str
    """Question of the experiment, in one line that is printed first; square brackets are markup of the terminal."""
    presets: Mapping[str, Config]
    """The options that `--preset` chooses from, one of them "digits"."""
    check: Callable[[Config], None]
    """Raises `Mistake` for options that would only be found wrong after hours of training."""
    requests: Callable[[Config, Dataset], Sequence[Request]]
    """The ensembles that it needs, in the order in which they are trained."""
    analyse: Callable[[Config, Runs, Dataset], Outcome]
    """Function that turns the trained ensembles into numbers, tables, figures and a finding in words."""
    takes: Callable[[Dataset], None] = takes_right_or_wrong
    """Raises `Mistake`, with what it takes instead, for data of a kind that it cannot be tried on."""

    def main(self, config: Config) -> Path:
        """Train or read the ensembles, analyse them and write the results; returns their folder.

        Raises:
          NothingMore: with `--cost`, and with `--part`, which leave nothing to analyse.
          Mistake: options that do not fit.
        """
        self.check(config)
        console.print(self.question)
        data, out = load(config, self.name, config.preset)
        self.takes(data)
        console.print(describe_data(data), markup=False)
        if config.standardize:
            config = replace(config, recipe=standardized(config.recipe, data))
        requests = self.requests(config, data)
        if config.cost:
            print_costs(requests, data, config.model, out)
            raise NothingMore
        runs = carry_out(requests, data, config, out)
        publish(self.analyse(config, runs, data), self.name, config, data, out, runs)
        return out

    def launch(self, about: str | None) -> int:
        """Do what the command line says; returns the exit status. `about` is the documentation of the experiment's module.

        The status is 0 when it is done, 2 for what the user can mend, 130 after an interrupt.
        """
        description = (about or "").split("\n\n")[0]
        config = parse(self.presets, program=f"experiments.{self.name}", description=description)
        use_compilation_cache()
        if config.cluster.kind is not None:
            # The memory of a card is for the processes that train; influence is computed on the processor anyway.
            jax.config.update("jax_platforms", "cpu")
        return tell(lambda: self.main(config))
