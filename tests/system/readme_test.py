"""The README's first feature runs as it is written, where nothing of ours is installed but the SDK's wheel."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

from tools.platform.layout import Layout, Route, fixed_ports
from tools.platform.platform import Platform
from tools.platform.ports import free_base

ROOT = Path(os.path.abspath(__file__)).parents[2]
README = ROOT / "README.md"
STORAGE = "127.0.0.1:7101"


def test_the_first_feature_runs_as_written(tmp_path):
    (program,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert STORAGE in program
    layout = Layout(data=tmp_path / "data", ports=fixed_ports(free_base()), routes=(Route("/", "html"),))
    with Platform(layout) as platform:
        file = tmp_path / "feature.py"
        file.write_text(program.replace(STORAGE, platform.addresses["storage"]), encoding="utf-8")
        (wheel,) = (ROOT / "libs/client/wheel").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "site")
        paths = [str(tmp_path / "site"), *(path for path in sys.path if "/pypi/" in path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        done = subprocess.run(
            [sys.executable, "-P", str(file)], env=environment, capture_output=True, text=True, timeout=60
        )
    assert (done.returncode, done.stdout) == (0, "b'monday' b'water the plants, twice'\n"), done.stderr
