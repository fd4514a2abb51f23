"""What every repository of a server shares: run the fetching program, and say why when there is nothing to be had.

A repository that cannot be had does not fail the build: it holds a file UNAVAILABLE with the reason, and the tests that
need it skip with that reason (or fail, see //tools/dev/servers:locate.py).
"""

def unavailable(rctx, reason):
    """Writes the file UNAVAILABLE, with the reason and the command that tries again."""
    text = "%s\nTry again: ./bazelw sync --only=%s\n" % (reason.strip(), rctx.name)
    rctx.file("UNAVAILABLE", text, executable = False)

    # buildifier: disable=print
    print("@%s is not available: %s" % (rctx.name, text))

def why_unavailable(rctx, label):
    """The reason for which the repository of `label` (any of its files) is unavailable, or None."""
    marker = rctx.path(label).dirname.get_child("UNAVAILABLE")
    return rctx.read(marker) if marker.exists else None

def fetch(rctx, module, arguments, inputs, environment = {}, timeout = 1800):
    """Runs `python3 -m module` at the top of the workspace; tells whether it succeeded.

    Args:
      rctx: the repository's context.
      module: the program, as a Python module of this workspace.
      arguments: its arguments.
      inputs: labels of all that the outcome depends on: the repository is made anew when one changes.
      environment: further environment variables.
      timeout: seconds.

    Returns:
      True, or False after having written UNAVAILABLE.
    """
    for label in inputs:
        rctx.watch(rctx.path(label))
    python = rctx.which("python3")
    if not python:
        unavailable(rctx, "python3 is not on PATH")
        return False
    rctx.report_progress("running " + module)
    done = rctx.execute(
        # Neither the caller's Python settings nor his site packages; no bytecode into the source tree.
        [python, "-E", "-s", "-B", "-m", module] + [str(a) for a in arguments],
        environment = environment,
        timeout = timeout,
        working_directory = str(rctx.workspace_root),
    )
    if done.return_code:
        unavailable(rctx, (done.stderr + done.stdout)[-6000:] or "%s ended with %d" % (module, done.return_code))
        return False
    if done.stderr:
        # buildifier: disable=print
        print("@%s: %s" % (rctx.name, done.stderr[-4000:]))
    return True

def build_file(rctx, targets):
    """Writes the BUILD file, of public filegroups.

    An unavailable repository's filegroups hold the file UNAVAILABLE alone, so that everything that names them still builds.

    Args:
      rctx: the repository's context.
      targets: name -> what the filegroup holds when the repository is available.
    """
    lines = ['package(default_visibility = ["//visibility:public"])', ""]
    missing = rctx.path("UNAVAILABLE").exists
    for name, sources in targets.items():
        lines.append("filegroup(name = %r, srcs = %r)" % (name, ["UNAVAILABLE"] if missing else sources))
    rctx.file("BUILD", "\n".join(lines) + "\n", executable = False)
    rctx.file("WORKSPACE", "", executable = False)
