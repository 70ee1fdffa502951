"""Starts real extractions quickly: imports torch once, then forks one process for each job it reads.

    python tests/extraction_server.py

Reads one JSON object a line: {"dataset", "out", "settings": {...}, "log"}. Prints the new process's id, and when that
process ended its exit code (negative: the signal). Each batch that the job encodes is noted in the file `log`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import transformers.models.bert.modeling_bert
import transformers.models.vit.modeling_vit  # noqa: F401 - so that a job need not wait for it

from cinefuse.data.runtime.errors import CinefuseError
from cinefuse.extract.job import extraction as run
from cinefuse.extract.job import loop as stream
from cinefuse.extract.job.settings import Settings


def extract(job: dict[str, Any]) -> int:
    """Run one job to its end, as `cinefuse extract` does; its exit code."""
    log = os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    encode_rows = stream.encode_rows

    def noted(file: Any, plan: Any, batches: Any, feed: Any, *rest: Any, **options: Any) -> None:
        encode = feed.encode
        numbers = iter([int(plan.batch[rows[0]]) for rows in batches])

        def noted_encode(inputs: Any) -> Any:
            os.write(log, f"{plan.name} {next(numbers)}\n".encode())
            return encode(inputs)

        feed.encode = noted_encode
        encode_rows(file, plan, batches, feed, *rest, **options)

    stream.encode_rows = noted
    settings = Settings(**job["settings"])
    try:
        run.extract(Path(job["dataset"]), Path(job["out"]), settings)
    except CinefuseError as refusal:
        sys.stderr.write(f"cinefuse: {refusal}\n")
        return refusal.exit_code
    return 0


def main() -> None:
    """Serve jobs until standard input ends."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os._exit(extract(json.loads(line)))
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
