"""`wellspring storage new`: the beginning of a feature that stores its data: a module and its test, which run as they
are."""

import keyword
import re
import sys
from pathlib import Path
from typing import Final

import click

from tools.cli.failures import CONFLICT, Failure
from tools.cli.output import Output
from tools.cli.target import json_option
from tools.cli.values import utf8

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
_CLASS: Final = re.compile(r"[A-Z][A-Za-z0-9]{0,62}")

_MODULE: Final = '''"""The feature {name}: what it stores, and how that is read and changed."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from wellspring_client import Client, Stored

NAMESPACE = "{name}"


@dataclass(frozen=True)
class {kind}:
    """One record. A field that is added later needs a default: what was stored before does not have it."""

    title: str
    tags: list[str] = field(default_factory=list)
    changed: datetime.datetime | None = None


class {kind}s:
    """The records, by key. Every method raises wellspring_client.WellspringError when storage cannot do it."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._records = client.storage.namespace(NAMESPACE).records({kind})

    def prepare(self) -> None:
        """Makes the namespace; call it at every start, it changes nothing when the namespace is there.

        Of its mode: in CAS namespaces a write may depend on what is there, so that nobody's change is lost.
        """
        self._client.storage.create_namespace(NAMESPACE, mode="CAS", description="the feature {name}")

    def add(self, key: str, title: str, *, tags: list[str] | None = None) -> {kind}:
        """Stores a new record. Raises ConditionFailed when the key is taken."""
        made = {kind}(title, tags or [], _now())
        self._records.put(key, made, if_absent=True)
        return made

    def get(self, key: str) -> {kind} | None:
        """The record, None when there is none."""
        stored = self._records.get(key)
        return None if stored is None else stored.value

    def tag(self, key: str, tag: str) -> {kind}:
        """Adds a tag, whoever else changes the record at the same time. Raises NotFound."""

        def tagged(one: {kind}) -> {kind}:
            return replace(one, tags=sorted({{*one.tags, tag}}), changed=_now())

        return self._records.update(key, tagged).value

    def remove(self, key: str) -> None:
        """Deletes a record. Raises NotFound."""
        self._records.delete(key)

    def all(self, prefix: str = "") -> Iterator[Stored[{kind}]]:
        """All records whose keys begin with ``prefix``, in the order of their keys, as they come."""
        return self._records.scan(prefix=prefix)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)
'''

_TEST: Final = '''"""{kind}s, against a storage server of the test's own: `pytest {name}_test.py`."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import wellspring_client
from {name} import {kind}s
from wellspring_client.testing import storage_server


@pytest.fixture(scope="session")
def client() -> Iterator[wellspring_client.Client]:
    with storage_server() as address, wellspring_client.connect(storage=address) as connected:
        yield connected


@pytest.fixture
def records(client: wellspring_client.Client) -> Iterator[{kind}s]:
    made = {kind}s(client)
    made.prepare()
    yield made
    for stored in made.all():
        made.remove(stored.key.decode())


def test_a_record_is_stored_and_read(records: {kind}s) -> None:
    made = records.add("a", "first", tags=["new"])
    assert records.get("a") == made and made.title == "first"
    assert records.get("nothing") is None


def test_a_key_is_taken_once(records: {kind}s) -> None:
    records.add("a", "first")
    with pytest.raises(wellspring_client.ConditionFailed):
        records.add("a", "second")


def test_changes_at_the_same_time_are_all_kept(records: {kind}s) -> None:
    records.add("a", "first")
    tags = [f"tag{{number:02}}" for number in range(20)]
    with ThreadPoolExecutor(5) as threads:
        list(threads.map(lambda tag: records.tag("a", tag), tags))
    kept = records.get("a")
    assert kept is not None and kept.tags == tags


def test_records_are_listed_and_removed(records: {kind}s) -> None:
    for key in ("b/2", "a/1", "b/1"):
        records.add(key, key)
    assert [stored.key for stored in records.all("b/")] == [b"b/1", b"b/2"]
    records.remove("b/1")
    assert [stored.value.title for stored in records.all()] == ["a/1", "b/2"]
    with pytest.raises(wellspring_client.NotFound):
        records.remove("b/1")
'''


@click.command()
@click.argument("name", callback=utf8)
@click.option("--into", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="The folder; . if not.")
@click.option("--class", "kind", callback=utf8, help="The name of the record's class; the feature's name if not.")
@json_option
def new(out: Output, name: str, into: Path, kind: str | None) -> None:
    """Write the beginning of a feature that stores its data in the namespace NAME: a module with a typed record and
    its calls, and a test of them against a server of its own. Both run as they are.

    \b
    Examples
      wellspring storage new drafts --class Draft
      wellspring storage new shopping_list --into features/shopping && pytest features/shopping
    """
    kind = kind or "".join(word.capitalize() for word in name.split("_"))
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name):
        raise click.UsageError(f"NAME: {name!r} is no name of a module; 1 to 63 of a-z, 0-9 and _, a letter first")
    if name in sys.stdlib_module_names or name in ("pytest", "wellspring_client"):
        raise click.UsageError(f"NAME: a module {name!r} would hide that of Python; take another name")
    if _CLASS.fullmatch(kind) is None or keyword.iskeyword(kind):
        raise click.UsageError(f"--class: {kind!r} is no name of a class; a capital letter, then letters and digits")
    files = {
        into / f"{name}.py": _MODULE.format(name=name, kind=kind),
        into / f"{name}_test.py": _TEST.format(name=name, kind=kind),
    }
    for path in files:
        if path.exists():
            raise Failure(f"{path} is there already; nothing was written", CONFLICT)
    into.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
    names = [str(path) for path in files]
    out.object({"files": names, "class": kind, "namespace": name}, "\n".join(names))
    out.note(f"run its test: pytest {names[1]}")
