"""The SDK's wheel stands alone: it names each package that it imports, at versions that do, and has the rest."""

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(os.path.abspath(__file__)).parent
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
NEEDED = {canonicalize_name(one.name): one for one in map(Requirement, PROJECT["dependencies"])}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A wheel of Python alone is installed by unpacking it."""
    (wheel,) = (HERE / "wheel").glob("*.whl")
    to = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(to)
    return to


def imported(folder):
    """All that modules below a folder import, at once or later, by full names."""
    names = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module is not None:
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def owners():
    """The packages of this interpreter's path, by the files that they have."""
    return {
        file.as_posix(): canonicalize_name(dist.name)
        for dist in importlib.metadata.distributions()
        for file in dist.files
    }


def test_it_names_the_packages_that_it_imports_and_no_others(installed):
    found = owners()
    needed = set()
    for name in imported(installed):
        top = name.partition(".")[0]
        if top in sys.stdlib_module_names or (installed / top).exists():
            continue
        parts = name.split(".")
        places = ["/".join(parts[:n]) + end for n in range(len(parts), 0, -1) for end in (".py", "/__init__.py")]
        owner = next((found[place] for place in places if place in found), None)
        assert owner is not None, f"{name} belongs to no package"
        needed.add(owner)
    assert needed == set(NEEDED)


def test_the_versions_that_it_is_tried_with_will_do():
    for name, requirement in NEEDED.items():
        assert requirement.specifier.contains(importlib.metadata.version(name)), requirement


@pytest.mark.parametrize(
    ("package", "line"),
    [("protobuf", r"# Protobuf Python Version: (\S+)"), ("grpcio", r"GRPC_GENERATED_VERSION = '(\S+)'")],
)
def test_no_older_package_than_the_contracts_were_generated_for_will_do(installed, package, line):
    texts = [file.read_text() for file in (installed / "wellspring").rglob("*.py")]
    versions = {found[1] for text in texts if (found := re.search(line, text))}
    (lowest,) = [one.version for one in NEEDED[package].specifier if one.operator == ">="]
    assert versions == {lowest}


def test_it_is_imported_where_nothing_else_of_ours_is(installed):
    others = [path for path in sys.path if "/pypi/" in path]
    program = (
        "import wellspring_client, wellspring_client.aio, wellspring_client.asgi, wellspring_client.grpc_interceptor,"
        " wellspring_client.testing; print(wellspring_client.__file__)"
    )
    environment = {"PYTHONPATH": os.pathsep.join([str(installed), *others]), "PATH": os.defpath}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], env=environment, cwd="/", capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(installed / "wellspring_client/__init__.py"), done.stderr


def test_types_and_licence_are_in_it(installed):
    names = {path.relative_to(installed).as_posix() for path in installed.rglob("*")}
    assert {"wellspring_client/py.typed", "wellspring/storage/v1/storage_pb2.pyi"} <= names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith("_test.py")]
