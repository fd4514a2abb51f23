"""The wiki that the demo runs: where its pages are stored, how they are rendered, who reads them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from examples.wiki import titles
from tools.platform.layout import Layout, Route

SITE: Final = "enwiki"
PREFIX: Final = f"{SITE}/page/"
SOURCES: Final = "wiki"
"""The namespace of wikitext, bound to propagation."""
PAGES: Final = "html"
"""The namespace of rendered pages, and the name of the view."""
WIKITEXT: Final = "text/x-wiki; charset=utf-8"

VIEWS: Final = f"""\
views:
  - name: {PAGES}
    resource_prefixes: ["{PREFIX}"]
    source_namespace: {SOURCES}
    source_prefix: "{PREFIX}"
    render:
      entry_point: {{function: "examples.wiki.renderer:render"}}
      timeout: 30s
    store:
      namespace: {PAGES}
      record: "{{resource}}"
    purge:
      urls: ["/{PREFIX}{{path}}"]
    max_concurrency: 16
"""


def layout(data: Path, ports: Mapping[str, int]) -> Layout:
    """The platform with the wiki's view and its readers' paths."""
    return Layout(data=data, ports=ports, routes=(Route(f"/{PREFIX}", PAGES, PREFIX),), views=VIEWS)


def record(title: str) -> str:
    """The record of a page in both namespaces' terms: its normalised title. Raises InvalidTitle."""
    return resource(title)[len(PREFIX) :]


def resource(title: str) -> str:
    """The page as propagation knows it. Raises InvalidTitle."""
    return titles.resource(titles.parse(title), SITE)


def path(title: str) -> str:
    """The page's path for readers. Raises InvalidTitle."""
    return titles.href(resource(title))
