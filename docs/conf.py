"""How Sphinx builds the documentation: `make docs`.

The sources are the Markdown files of the checkout where they lie, so that a link between two of them is the same on the site and in the
repository: `docs/`, `benchmarks/README.md`, CONTRIBUTING.md and CHANGELOG.md.
"""

import sys
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
sys.path.insert(0, str(Path(__file__).parent.parent))

project, author, copyright = "jaxinfl", "the authors of jaxinfl", "the authors of jaxinfl, Apache-2.0"
version = release = metadata.version("jaxinfl")
root_doc = "docs/index"
include_patterns = ["docs/**.md", "benchmarks/README.md", "CONTRIBUTING.md", "CHANGELOG.md"]
# Folders that hold no page, so that they need not be searched. A pattern that begins with a dot alone would leave out the style sheet.
exclude_patterns = [".git", ".venv*", ".hypothesis", ".*_cache", "build", "results", "tests", "jaxinfl", "experiments"]

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "docstrings",
    "command_options",
    "formulas",
    "one_host",
    "front_page",
]
myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 4
# Pages that are written elsewhere take their place in the navigation as soon as they are there.
suppress_warnings = ["toc.empty_glob"]

# `docstrings` takes signatures and types from the source, where they are as short as their authors wrote them.
autodoc_typehints = "none"
autodoc_member_order = "bysource"
default_role = "py:obj"
maximum_signature_line_length = 70
add_module_names = False
toc_object_entries_show_parents = "hide"
python_display_short_literal_types = True

html_theme = "furo"
html_title = "jaxinfl"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_show_sourcelink = False
