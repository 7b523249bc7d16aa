"""LMCache's own tests of adapters, unchanged, with ours in the place of two of its adapters.

The tests are in LMCache's source distribution. Each file has the number of its tests, and the names of those that may
fail, with the reason. Another failure, another number, and an allowed failure that passes are reported."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import urllib.request
import xml.etree.ElementTree as xml
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from report import emit, step

_SLOW = "needs work that is in flight for as long as the mock's simulated bandwidth makes it"
_INTERNALS = "patches the internals of LMCache's own raw_block"


class File(NamedTuple):
    path: str
    in_place_of: str
    tests: int
    may_fail: dict[str, str]


FILES = (
    File(
        "test_mock_l2_adapter.py",
        "mock",
        44,
        {"test_store_completion_is_delayed_by_bandwidth": "measures the mock's simulated bandwidth"},
    ),
    File(
        "test_raw_block_l2_adapter.py",
        "raw_block",
        25,
        {
            "test_raw_block_l2_adapter_uring_cmd_rejects_regular_file": "a rule of LMCache's configuration",
            "test_raw_block_l2_adapter_uses_global_eviction_accounting": "wants a full store to refuse; ours evicts",
            "test_raw_block_l2_adapter_error_bitmaps_keep_submitted_size": _INTERNALS,
        },
    ),
    File("test_l2_adapter_base.py", "mock", 22, {}),
    File("test_cache_salt_l2_eviction.py", "mock", 6, {}),
    File("l2_adapters/test_serde_wrapper.py", "mock", 18, {}),
    File("test_storage_manager_l2_keys.py", "mock", 5, {}),
    File("test_l2_adapter_factory.py", "mock", 50, {}),
    File("test_runtime_adapters.py", "mock", 11, {}),
    File("test_store_controller.py", "mock", 24, {}),
    File(
        "test_prefetch_controller.py",
        "mock",
        60,
        {
            "test_admits_more_than_eight_below_watermark": _SLOW,
            "test_watermark_holds_back_requests": _SLOW,
            "test_request_waits_for_l1_free_space": _SLOW,
            "test_remove_waits_for_in_flight_load": _SLOW,
            "test_requests_during_drain_release_their_admission_slot": _SLOW,
            "test_stop_releases_in_flight_locks": _SLOW,
        },
    ),
)


def fetch(folder: Path, uv: str, cache: str) -> Path:
    """Fetches the source distribution of the LMCache that is installed, and returns the folder of its tests."""
    requirement = f"lmcache=={version('lmcache')}"
    tests = folder / requirement.replace("==", "-")
    if not tests.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # pip would build it to learn its name. The lock of a requirement has the address and needs no build.
        locked = subprocess.run(
            [uv, "pip", "compile", "-q", "--no-deps", "--python", sys.executable, "--format", "pylock.toml", "-"],
            input=requirement,
            env={**os.environ, "UV_CACHE_DIR": cache},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        address = re.search(r'^sdist = \{ url = "([^"]+)"', locked, re.MULTILINE)
        assert address is not None, "the registry has no source distribution"
        with tempfile.TemporaryDirectory(dir=folder) as unpacked:
            archive = Path(unpacked) / "sdist.tar.gz"
            urllib.request.urlretrieve(address[1], archive)
            with tarfile.open(archive) as files:
                files.extractall(unpacked, filter="data")
            source = next(path for path in Path(unpacked).iterdir() if path.is_dir())
            made = Path(unpacked) / "made"
            made.mkdir()
            shutil.copytree(source / "tests", made / "tests")
            shutil.copy(source / "pytest.ini", made)
            made.rename(tests)
    return tests


def run(tests: Path, file: File) -> tuple[int, int]:
    """Runs the tests of a file, and returns how many passed and how many there were."""
    counted = (0, 0)
    with step(f"lmcache/upstream/{Path(file.path).stem}") as running, tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        here = str(Path(__file__).parent)
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "--noconftest", "-p", "upstream_plugin", "-o", "log_cli=false"),
                *("--show-capture=no", "-W", "ignore", "-p", "no:cacheprovider"),
                *("--in-place-of", file.in_place_of, f"--junitxml={report}", f"tests/v1/distributed/{file.path}"),
            ],
            cwd=tests,
            env={**os.environ, "PYTHONPATH": here, "LMCACHE_TRACK_USAGE": "false"},
            check=False,
        )
        cases: dict[str, set[str]] = {}
        for case in xml.parse(report).getroot().iter("testcase"):
            cases.setdefault(f"{case.get('classname')}::{case.get('name')}", set()).update(part.tag for part in case)
        failed = {name for name, parts in cases.items() if parts & {"failure", "error"}}
        skipped = {name for name, parts in cases.items() if "skipped" in parts}
        counted = (len(cases) - len(failed) - len(skipped), len(cases))
        running.figure = f"{counted[0]} of {counted[1]}"
        names = {name.split("::")[1].split("[")[0] for name in failed}
        running.figures = {"passed": counted[0], "tests": counted[1], "failed": sorted(names)}
        unexpected = sorted(names - set(file.may_fail))
        assert not unexpected, f"failed: {', '.join(unexpected)}"
        assert not skipped, f"skipped: {', '.join(sorted(skipped))}"
        assert counted[1] == file.tests, f"{file.tests} tests were expected"
        # On a busy machine ours is as slow as the mock.
        mended = sorted(name for name, why in file.may_fail.items() if name not in names and why != _SLOW)
        assert not mended, f"passed, and may fail no longer: {', '.join(mended)}"
        reasons = sorted({file.may_fail[name] for name in names})
        if reasons:
            running.figure += f"; the others: {'; '.join(reasons)}"
    return counted


def main() -> None:
    folder, uv, cache = sys.argv[1:]
    with step("lmcache/upstream/fetch") as running:
        tests = fetch(Path(folder), uv, cache)
        running.figure = tests.name
    counts = [run(tests, file) for file in FILES]
    passed, total = (sum(count[at] for count in counts) for at in (0, 1))
    emit("lmcache/upstream", "pass", f"{passed} of {total} in {len(FILES)} files", 0.0)


if __name__ == "__main__":
    main()
