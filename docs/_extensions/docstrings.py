"""Docstrings and signatures as their authors wrote them.

An annotation that has been evaluated is unreadable: the one name `Models` becomes a union of eleven types, and an axis such as
"models train" is repeated in each. So signatures and the types of fields are taken from the source.
"""

import ast
import dataclasses
import functools
import inspect
import re
import textwrap
from typing import Any, Literal, get_origin

from sphinx.application import Sphinx
from sphinx.ext.napoleon import Config, GoogleDocstring

_STAR = re.compile(r"`[^`]*`|\*")
_HEADINGS = ("Args:", "Returns:", "Raises:", "Attributes:", "Yields:", "Warns:")
_SECTIONS = [("Memory", "returns_style"), ("Source", "returns_style")]
_NAPOLEON = Config(napoleon_use_rtype=False, napoleon_use_ivar=True, napoleon_custom_sections=_SECTIONS)


@functools.cache
def _tree(value: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def write_signature(value: Any) -> tuple[str, str] | None:
    """Parameters of a function or class and its result, as the source has them; None where there is no source.

    The fields of dataclasses and named tuples follow one by one, so that they are left out here.
    """
    if inspect.isclass(value):
        if issubclass(value, BaseException):
            return None
        if dataclasses.is_dataclass(value) or issubclass(value, tuple):
            return "", ""
        value = value.__init__
    try:
        tree = _tree(inspect.unwrap(getattr(value, "__func__", value)))
    except (OSError, TypeError):
        return None
    if not isinstance(tree, ast.FunctionDef):
        return None
    tree = _SpellChoices(inspect.getmodule(inspect.unwrap(getattr(value, "__func__", value)))).visit(tree)
    arguments = tree.args
    for names in (arguments.posonlyargs, arguments.args):
        names[:] = [name for name in names if name.arg not in ("self", "cls")]
    result = "" if tree.returns is None else ast.unparse(tree.returns)
    if result == "None":
        result = ""
    return _tidy(f"({ast.unparse(arguments)})"), _tidy(result.strip("'\""))


class _SpellChoices(ast.NodeTransformer):
    """Replaces the name of a choice between words, such as `Optimizer`, by the words."""

    def __init__(self, module: Any) -> None:
        self.module = module

    def visit_Name(self, node: ast.Name) -> ast.expr:
        meant = getattr(self.module, node.id, None)
        return ast.parse(repr(meant).replace("typing.", ""), mode="eval").body if get_origin(meant) is Literal else node


def _tidy(written: str) -> str:
    """The axes of an array without the space in front of a single one, which keeps linters from taking it for a name."""
    return written.replace("' ", "'")


def write_type(owner: type, name: str) -> str:
    """Type and default of a field, as the source has them; "" where it has none."""
    for base in owner.__mro__:
        try:
            tree = _tree(base)
        except (OSError, TypeError):
            continue
        for line in getattr(tree, "body", ()):
            if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and line.target.id == name:
                kind = ast.unparse(_SpellChoices(inspect.getmodule(base)).visit(_plain(line.annotation)))
                default = "" if line.value is None else f" = {ast.unparse(line.value)}"
                return _tidy(f"{kind}{default}")
    return ""


def _plain(annotation: ast.expr) -> ast.expr:
    """The type without what tells a command line how to read it."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        return annotation.slice.elts[0]
    return annotation


def _signature(app: Sphinx, what: str, name: str, value: Any, *_: Any) -> tuple[str, str] | None:
    return write_signature(value) if what in ("function", "method", "class", "exception") else None


def _docstring(app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
    if what in ("attribute", "property"):
        # A colon in a sentence about a field is no type, for which the Google style takes it.
        lines[:] = [*_field_type(name), *to_restructured_text(lines)]
    else:
        plain = to_restructured_text(lines)
        lines[:] = _Google(plain, _NAPOLEON, app, what, name, value, options).lines()


def to_restructured_text(lines: list[str]) -> list[str]:
    """The docstring with what differs from Markdown: stars, lists within a paragraph, and blocks of code by their indentation."""
    found: list[str] = []
    listed: int | None = None  # indentation of the list that the line before is in
    code = False
    for line in lines:
        indent, before = len(line) - len(line.lstrip()), found[-1] if found else ""
        if not line.strip():
            found.append(line)
            continue
        code = indent >= 4 and (code or (not before.strip() and listed is None and _last_indent(found) == 0))
        if code:
            if _last_indent(found) == 0:
                found += ["::", ""]
            found.append(line)
            continue
        bullet = line.lstrip().startswith("- ")
        starts, ends = bullet and listed is None, listed is not None and not bullet and indent <= listed
        if (starts or ends) and before.strip():
            found.append("")
        listed = indent if bullet else None if ends else listed
        found.append(_STAR.sub(lambda match: match[0] if match[0][0] == "`" else r"\*", line))
    return found


def _last_indent(lines: list[str]) -> int:
    last = next((line for line in reversed(lines) if line.strip()), "")
    # What follows a heading such as "Returns:" is its text.
    return 1 if last.rstrip() in _HEADINGS else len(last) - len(last.lstrip())


def _field_type(name: str) -> list[str]:
    import jaxinfl

    parts = name.split(".")[1:]
    owner: Any = jaxinfl
    for part in parts[:-1]:
        owner = getattr(owner, part, None)
    written = write_type(owner, parts[-1]) if inspect.isclass(owner) else ""
    return [f"``{written}``", ""] if written else []


class _Google(GoogleDocstring):
    """The Google style, whose results have no types: "float32 [train]: one for each" is a sentence about them."""

    def _consume_returns_section(self, preprocess_types: bool = False) -> list[tuple[str, str, list[str]]]:
        return [("", "", self._dedent(self._consume_to_next_section()))]


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("autodoc-process-signature", _signature)
    app.connect("autodoc-process-docstring", _docstring)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
