"""Reads the file of an offline W&B run: blocks of 32 KiB, records of a seven-byte head (checksum, length, type) and a part of a message."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEAD = 32_768, 7


def records(file: Path) -> Iterator[Any]:
    """The messages of a .wandb file, in order."""
    from wandb.proto import wandb_internal_pb2

    data, place, held = file.read_bytes(), HEAD, b""  # the file's own head is as long as a record's
    while place + HEAD <= len(data):
        if BLOCK - place % BLOCK < HEAD:
            place += BLOCK - place % BLOCK
            continue
        length, kind = int.from_bytes(data[place + 4 : place + 6], "little"), data[place + 6]
        held += data[place + HEAD : place + HEAD + length]
        place += HEAD + length
        if kind in (1, 4):  # a whole message, or the last part of one
            message = wandb_internal_pb2.Record()
            message.ParseFromString(held)
            held = b""
            yield message


def history(file: Path) -> list[dict[str, Any]]:
    """The rows that were logged, each with its _step."""
    return [
        {".".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records(file)
        if record.WhichOneof("record_type") == "history"
    ]


def run(file: Path) -> tuple[str, str, str, dict[str, Any]]:
    """Id, project, name and settings of the run."""
    found = next(record.run for record in records(file) if record.WhichOneof("record_type") == "run")
    given = [record.config for record in records(file) if record.WhichOneof("record_type") == "config"]
    settings = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for config in given for item in config.update}
    return found.run_id, found.project, found.display_name, settings
