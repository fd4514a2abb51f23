"""What the benches of whole deployments share: a folder for a run, progress beside the figures, the figures told."""

import json
import shutil
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Figures = dict[str, float | int]


def log(text: str) -> None:
    """Progress, beside the figures."""
    print(text, file=sys.stderr, flush=True)


def add_options(parser: ArgumentParser) -> None:
    """``--folder`` and ``--json``."""
    parser.add_argument("--folder", help="where the data goes while it runs; on a real disk (default: a temporary one)")
    parser.add_argument("--json", action="store_true", help="one object on the last line")


@contextmanager
def run_folder(bench: str, parent: str | None) -> Iterator[Path]:
    """A folder of the run's own, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix=f"bench-{bench}-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tell_figures(figures: Mapping[str, float | int], as_json: bool, tell: Callable[[str], None]) -> None:
    """One object, or a table for people."""
    if as_json:
        tell(json.dumps(figures))
    else:
        width = max(map(len, figures))
        tell("\n".join(f"{name:<{width}}  {value:>14,}" for name, value in figures.items()))
