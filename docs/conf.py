"""Sphinx configuration; `make docs` builds the site into build/docs."""

import inspect

import sktransformers

project = "sktransformers"
author = "The sktransformers developers"
copyright = "2026, The sktransformers developers"
version = release = sktransformers.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["auto_examples/**/*.ipynb"]

html_theme = "furo"
html_title = f"sktransformers {release}"

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "download_all_examples": False,
    "show_signature": False,
    "min_reported_time": float("inf"),
}


def skip_inherited(app, what, name, obj, skip, options):
    """Leave out what scikit-learn documents: its text links to scikit-learn's pages."""
    obj = obj.fget if isinstance(obj, property) else inspect.unwrap(obj)
    module = getattr(obj, "__module__", None) or ""
    return skip or not module.startswith("sktransformers")


def setup(app):
    app.connect("autodoc-skip-member", skip_inherited)
