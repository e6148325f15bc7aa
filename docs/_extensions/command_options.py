"""The options of a sub-command of `jaxinfl`, from the dataclass that reads them: ``.. command-options:: train``."""

import dataclasses
import importlib
import inspect
from typing import Any

from docstrings import to_restructured_text, write_type
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.pycode import ModuleAnalyzer
from sphinx.util.docutils import SphinxDirective


def describe_options(kind: type, before: str = "--", defaults: Any = None) -> list[str]:
    """A definition list of the options of a dataclass, in reStructuredText, with those of the dataclasses in it.

    `defaults` is what the command takes for a nested dataclass, whose values may differ from the dataclass's own.
    """
    lines = []
    for field in dataclasses.fields(kind):
        name, inner = before + field.name.replace("_", "-"), field.type
        if inspect.isclass(inner) and dataclasses.is_dataclass(inner):
            lines += describe_options(inner, f"{name}.", field.default_factory())
            continue
        written, equals, default = write_type(kind, field.name).partition(" = ")
        if defaults is not None:
            default = repr(getattr(defaults, field.name))
        text = " ".join(to_restructured_text(find_docstring(kind, field.name)))
        lines += [f"``{_shown_name(field, name, default)}`` : ``{written}{equals}{default}``", f"   {text}", ""]
    return lines


def _shown_name(field: dataclasses.Field, name: str, default: str) -> str:
    """The name as it is typed: a switch that is on is switched off, and an argument may have no name."""
    if "Positional" in repr(field.type):
        return field.name.upper()
    if "name=''" in repr(field.type):
        return name.rpartition(".")[0]
    first, dot, last = name.rpartition(".") if "." in name else ("--", "", name.removeprefix("--"))
    return f"{first}{dot}no-{last}" if default == "True" else name


def find_docstring(kind: type, name: str) -> list[str]:
    """The docstring below a field, which may be that of a class that this one extends; empty where it has none."""
    for base in kind.__mro__:
        if base.__module__ != "builtins":
            found = ModuleAnalyzer.for_module(base.__module__).find_attr_docs().get((base.__qualname__, name))
            if found:
                return [line.strip() for line in found]
    return []


class CommandOptions(SphinxDirective):
    """Lists the options of the sub-command that it names."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        kind = importlib.import_module(f"jaxinfl.cli.{self.arguments[0]}").Options
        return self.parse_text_to_nodes(StringList(describe_options(kind), source=kind.__module__))


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("command-options", CommandOptions)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
