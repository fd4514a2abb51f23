"""py_library, py_binary, and py_test as pytest runs it."""

_MAIN = "//tools/python:pytest_main.py"

# Servers that are JVMs: the tests that start them take turns, beside tests of everything else (decision 0136).
_JVM = ["cassandra", "kafka"]

def _public(kwargs):
    return dict({"visibility": ["//visibility:public"]}, **kwargs)

def py_library(name, **kwargs):
    """A library of Python modules; visible everywhere unless said otherwise."""
    native.py_library(name = name, srcs_version = "PY3", **_public(kwargs))

def py_binary(name, **kwargs):
    """A program; visible everywhere unless said otherwise."""
    native.py_binary(
        name = name,
        python_version = "PY3",
        srcs_version = "PY3",
        **_public(kwargs)
    )

def py_test(name, srcs, deps = [], args = [], tags = [], **kwargs):
    """A test whose srcs (those named *_test.py) are pytest files.

    Args:
      name: the target's name.
      srcs: files named *_test.py, collected by pytest, and modules that they import.
      deps: libraries; pytest itself is added.
      args: further arguments of pytest.
      tags: what the test needs (cassandra, kafka, redis, varnish, ...), and others as for py_test.
      **kwargs: as for py_test (size, data, shard_count, ...).
    """
    tests = [s for s in srcs if s.endswith("_test.py")]
    if not tests:
        fail("py_test %s: no file in srcs is named *_test.py" % name)
    native.py_test(
        name = name,
        srcs = srcs + [_MAIN],
        args = ["$(rootpath %s)" % s for s in tests] + args,
        main = _MAIN,
        python_version = "PY3",
        srcs_version = "PY3",
        tags = tags + (["resources:jvm:1"] if [tag for tag in tags if tag in _JVM] else []),
        deps = depset(deps + ["@pypi//pytest"]).to_list(),
        **kwargs
    )
