"""How the programs of `cargo xtask door-test` report: a line for each step, which the task collects."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MARK = "RB-DOOR "


class Skip(Exception):
    """A step cannot run here. The text is the reason."""


class Step:
    """A step that runs. `figure` is shown in the table, `figures` are for machines."""

    def __init__(self) -> None:
        self.figure = ""
        self.figures: dict[str, Any] = {}


def emit(step: str, result: str, figure: str, seconds: float, figures: dict[str, Any] | None = None) -> None:
    line = {"step": step, "result": result, "figure": figure, "seconds": round(seconds, 2), "figures": figures or {}}
    sys.stdout.write(f"\n{MARK}{json.dumps(line)}\n")
    sys.stdout.flush()


@contextmanager
def step(name: str) -> Iterator[Step]:
    """Reports how a step ends. An error is its result, and the program goes on."""
    running = Step()
    began = time.monotonic()
    result = "pass"
    try:
        yield running
    except Skip as why:
        result, running.figure = "skip", str(why)
    except Exception as error:
        traceback.print_exc()
        result = "fail"
        running.figure = f"{running.figure} {type(error).__name__}: {error}".strip()
    emit(name, result, running.figure, time.monotonic() - began, running.figures)
