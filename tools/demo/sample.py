"""Where the demo's pages are: the MediaWiki export that comes with the program, or a file that is named."""

from pathlib import Path
from typing import Final

FILE_NAME: Final = "enwiki-pages-articles.xml.bz2"
REPOSITORY: Final = "enwiki_sample"


class SampleMissing(Exception):
    """The export is not here; the text says how to get or to name one."""


def find() -> Path:
    """The export beside this program: in Bazel's runfiles, in a bundle, or in a checkout that Bazel has built.

    Raises SampleMissing.
    """
    top = Path(__file__).absolute().parents[2]
    folders = [top.parent / REPOSITORY, top.parent / "external" / REPOSITORY]
    output = top / ".bazel/out"
    if output.exists():
        # .bazel/out is OUTPUT_BASE/execroot/WORKSPACE/bazel-out; repositories are in OUTPUT_BASE/external.
        folders.append(output.resolve().parents[2] / "external" / REPOSITORY)
    for folder in folders:
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    raise SampleMissing(
        "the sample export is not here: run the demo as `./bazelw run //:wellspring -- demo`, or name a MediaWiki "
        "export with --dump FILE"
    )
