"""`sft-kit gen-identity`: identity rows, and beside them the questions held out from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sft_kit.identity.generate import IdentityData


def gen_identity(
    name: Annotated[str, typer.Option(help="The model's name.", show_default=False)],
    author: Annotated[str, typer.Option(help="Who made it: a person, a team or a company.", show_default=False)],
    name_en: Annotated[str | None, typer.Option(help="The name in English text. [default: --name]")] = None,
    author_en: Annotated[str | None, typer.Option(help="The author in English text. [default: --author]")] = None,
    lang: Annotated[str, typer.Option(help="Languages, separated by commas: zh, en.")] = "zh,en",
    rows: Annotated[int, typer.Option(min=1, help="Training rows, all languages together.")] = 120,
    seed: Annotated[int, typer.Option(help="Another seed chooses other rows; the held-out questions stay.")] = 42,
    fmt: Annotated[str, typer.Option("--format", help="messages, alpaca or sharegpt.")] = "messages",
    out: Annotated[Path | None, typer.Option(help="[default: identity.jsonl; .json for alpaca, sharegpt]")] = None,
    slot: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE of VERSION, DATE, CAPABILITIES, LIMITS, LICENSE; KEY.zh=VALUE for one language."),
    ] = None,
    system_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the rows that stand under a system prompt, each another one.")
    ] = 0.3,
    template: Annotated[Path | None, typer.Option(help="A template file or folder. [default: shipped]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files; allow a name equal to its author.")] = False,
) -> None:
    """Write identity training rows and, beside them, the held-out questions that prove them."""
    from sft_kit.errors import Problem, UsageError
    from sft_kit.identity import generate as identity
    from sft_kit.identity.names import check_names, raise_name_errors
    from sft_kit.identity.output import write_set
    from sft_kit.identity.templates import load_templates

    languages, form = identity.parse_languages(lang), identity.parse_format(fmt)
    names = {each: name_en or name if each == "en" else name for each in languages}
    authors = {each: author_en or author if each == "en" else author for each in languages}
    findings = check_names(names, authors, force=force)
    raise_name_errors(findings)
    slots = identity.parse_slots(slot or [])
    spec = identity.IdentitySpec(names, authors, languages, rows, seed, slots, system_share)
    data = identity.generate(spec, load_templates(template))
    rows_file = out or Path("identity.jsonl" if form == "messages" else "identity.json")
    questions_file = rows_file.with_name(f"{rows_file.stem}.held_out.jsonl")
    written = (rows_file, questions_file, identity.meta_path(rows_file))
    if not force and (there := [file for file in written if file.exists()]):
        raise UsageError(
            *(Problem(str(file), "is already there", "choose another --out, or --force") for file in there)
        )
    write_set(data, rows_file, form, questions_file)
    for warning in [*(f"{f.key} {f.message}; {f.fix}" for f in findings), *data.notes]:
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(_table(data))
    typer.echo(f"{len(data.rows)} rows: {rows_file}\n{len(data.held_out)} held-out questions: {questions_file}")


def _table(data: IdentityData) -> str:
    """Training rows + held-out questions, a line for each category and a column for each language."""
    counts = data.counts()
    languages: Sequence[str] = data.spec.languages
    lines = [f"{'category':18}" + "".join(f"{each:>10}" for each in languages) + "   (rows + held-out questions)"]
    for category in dict.fromkeys(category for category, _ in counts):
        cells = [counts.get((category, each), (0, 0)) for each in data.spec.languages]
        lines.append(f"{category:18}" + "".join(f"{f'{trained} + {held}':>10}" for trained, held in cells))
    return "\n".join(lines)
