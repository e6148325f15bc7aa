"""The sub-commands of `jaxinfl`, one file each: its options, and a function that turns them into an answer.

`jaxinfl_command.py` beside this package finds the sub-command that is asked for. A sub-command is a module `jaxinfl.cli.NAME`
with a dataclass `Options` and a function `run(options)`, and a line in `jaxinfl_command.COMMANDS`.
"""
