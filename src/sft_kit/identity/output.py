"""Puts the files that `gen-identity` writes in place: all of them, or none.

Rows beside the questions of other rows would be a set that proves nothing. What is in the files is `generate`'s to say.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

from sft_kit.data.formats import Format
from sft_kit.identity.generate import IdentityData, meta_path, write_identity
from sft_kit.writes import UNFINISHED, NotWritten, not_written


def write_set(data: IdentityData, rows: Path, fmt: Format, held_out: Path) -> None:
    """`write_identity` into the one folder of both, in one go. Raises NotWritten: what was there is there still."""
    folder = rows.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=UNFINISHED) as unfinished:
            made = Path(unfinished) / rows.name
            try:
                write_identity(data, made, fmt, made.with_name(held_out.name))
            except NotWritten as error:
                (problem,) = error.problems
                place = str(folder / Path(problem.place).name)
                raise NotWritten(replace(problem, place=place), error.errno) from None
            for target in (rows, held_out, meta_path(rows)):
                try:
                    os.replace(made.with_name(target.name), target)
                except OSError as error:
                    raise not_written(target, error) from error
    except OSError as error:
        raise not_written(rows, error) from error
