"""Running the suite: mocha as a process, and what it says of each test."""

import asyncio
import json
import os
from dataclasses import dataclass
from pathlib import Path

from tools.dev.servers import locate

_HERE = Path(__file__).absolute().parent
_PATIENCE_S = 900


@dataclass(frozen=True)
class Verdict:
    """One test of the suite: what was wrong, or nothing."""

    title: str
    error: str = ""


class SuiteError(RuntimeError):
    """The suite did not run to its end."""


async def verdicts(front: str) -> list[Verdict]:
    """Runs all of the suite against the front at the URL ``front``; its tests in their order. Raises SuiteError, and
    what ``locate.repository`` raises."""
    home = locate.repository("restbase_suite")
    modules = home / "node_modules"
    mocha = modules / "mocha/bin/_mocha"
    command = [str(home / "bin/node"), "--no-deprecation", str(mocha), "--reporter", "json", "--no-timeouts", "--exit"]
    environment = {"RESTBASE_FRONT": front, "NODE_PATH": str(modules), "PATH": os.environ.get("PATH", "")}
    process = await asyncio.create_subprocess_exec(
        *command,
        str(_HERE / "suite.js"),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), _PATIENCE_S)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return read(out.decode(), errors.decode())


def read(out: str, errors: str = "") -> list[Verdict]:
    """The verdicts in what mocha's JSON reporter printed, behind whatever tests have printed. Raises SuiteError."""
    begin = out.rfind('{\n  "stats": {')
    if begin < 0:
        raise SuiteError(f"mocha did not come to its end:\n{out[-2000:]}\n{errors[-2000:]}")
    told = json.loads(out[begin:])
    found = [
        Verdict(one["fullTitle"], (one["err"].get("message") or "failed") if one["err"] else "")
        for one in told["tests"]
    ]
    hooks = [one["fullTitle"] for one in told["failures"] if one["fullTitle"] not in {each.title for each in found}]
    if hooks or told["pending"]:
        raise SuiteError(f"hooks failed: {hooks}; not run: {[one['fullTitle'] for one in told['pending']]}")
    return found
