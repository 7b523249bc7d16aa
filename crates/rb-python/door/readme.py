"""The example of the wheel's README, in an environment that is made for it and has only Python and pip."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from report import step

README = Path(__file__).parent.parent / "README.md"
SECONDS_MAX = 60.0
LINES_MAX = 15


def main(name: str, wheel: str) -> None:
    with step(name) as running, tempfile.TemporaryDirectory() as folder:
        example = re.search(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
        assert example is not None, "the README has no example"
        code = example[1].replace("/tmp/kv", f"{folder}/kv")
        lines = [line for line in code.splitlines() if line]
        assert len(lines) <= LINES_MAX
        subprocess.run([sys.executable, "-m", "venv", f"{folder}/bare"], check=True)
        python = f"{folder}/bare/bin/python"
        began = time.monotonic()
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-index", wheel], check=True)
        subprocess.run([python, "-c", code], check=True, cwd=folder)
        seconds = time.monotonic() - began
        running.figures = {"seconds": seconds, "lines": len(lines)}
        running.figure = f"{len(lines)} lines, {seconds:.1f} s with the installation, without a registry"
        assert seconds < SECONDS_MAX


main(*sys.argv[1:])
