"""The judgement as text: each part as a few lines of at most 100 columns."""

from typing import Any

from gpt.attention.glyphs import glyph
from gpt.judge.judge import COPY
from gpt.judge.scores import Rows

WIDTH, TITLE = 100, 24  # columns: of all, and of the titles of rows
LONGEST_QUOTE = 60  # characters of a copied run that are shown


def text_of(part: str, result: dict[str, Any]) -> str:
    """The lines that show `part` of the judgement, each with its end; "" for what is shown later.

    Args:
        result: the JSON so far, with this part in it.
    """
    return RENDERED[part](result) if part in RENDERED else ""


def _precision(result: dict[str, Any]) -> str:
    error = result["standard_error"]
    known = f"± {error:.4f} (standard error), " if error is not None else ""
    return f"{known}perplexity {result['perplexity']:#.5g}, {result['characters']:,} characters\n"


def _baselines(result: dict[str, Any]) -> str:
    keys = {"loss": "val_loss", "bits": "val_bits_per_char", "perplexity": "perplexity"}
    own = {"name": "model", **{key: result[name] for key, name in keys.items()}}
    lines = [f"\n{'the same characters by':34}{'nats':>8}{'bits':>10}{'perplexity':>14}"]
    for row in sorted([*result["baselines"], own], key=lambda row: -row["loss"]):
        numbers = f"{row['loss']:8.4f}{row['bits']:10.4f}{row['perplexity']:#14.5g}"
        lines.append(f"  {_in_words(row['name']):32}{numbers}")
    used = result["characters_used"]
    if used["validation"] <= result["characters"] or used["training"] == used["most"]:
        lines.append(
            f"  (counted and compressed: the last {used['training']:,} characters of the training "
            f"part, the first {used['validation']:,} of the other)"
        )
    return "\n".join(lines) + "\n"


def _in_words(name: str) -> str:
    """A baseline, or who wrote a text."""
    words = {
        "model": "this model",
        "uniform": "uniform: all characters alike",
        "unigram": "unigram: their frequencies",
        "xz": "xz -9, after the training part",
    }
    return words.get(name, f"counted {name}s")


def _against_counting(result: dict[str, Any]) -> str:
    by = result["against_counting"]
    error = "" if by["standard_error"] is None else f" ± {by['standard_error']:.4f}"
    name = _in_words(result["baselines"][-1]["name"])
    return f"  this model minus {name}: {by['loss']:+.4f}{error} nats\n"


def _by_context(result: dict[str, Any]) -> str:
    rows = result["by_context"]
    spans = ["-".join(dict.fromkeys((str(row["from"]), str(row["to"])))) for row in rows]
    return "\n" + _columns({"characters of context": spans, "loss": _losses(rows)})


def _by_kind(result: dict[str, Any]) -> str:
    lines = [f"\n{'kind of character':{TITLE}}{'characters':>12}{'loss':>8}{'of all loss':>14}"]
    for row in result["by_kind"]:
        share = f"{row['share_of_loss']:.1%}"
        lines.append(f"  {row['kind']:{TITLE}}{row['characters']:10,}{row['loss']:8.3f}{share:>14}")
    return "\n".join(lines) + "\n"


def _costliest(result: dict[str, Any]) -> str:
    rows = result["costliest"]
    signs = [glyph(row["character"]) for row in rows]
    shares = [f"{row['share_of_loss']:.1%}" for row in rows]
    return "\n" + _columns(
        {"costliest characters": signs, "of all loss": shares, "loss": _losses(rows)}
    )


def _losses(rows: Rows) -> list[str]:
    return [f"{row['loss']:.3f}" for row in rows]


def _calibration(result: dict[str, Any]) -> str:
    bins = result["calibration"]["bins"]
    said, came = ([f"{row[key]:.0%}" for row in bins] for key in ("said", "right"))
    error = [f"{result['calibration']['error']:.1%}"]
    return "\n" + _columns(
        {"sure of its best guess": said, "right": came, "calibration error": error}
    )


def _columns(table: dict[str, list[str]]) -> str:
    """A line for each title; as many of the last columns as fit."""
    wide = max(len(cell) for cells in table.values() for cell in cells) + 1
    most = (WIDTH - TITLE) // wide
    return "".join(
        f"{title:{TITLE}}{''.join(f'{cell:>{wide}}' for cell in cells[-most:])}\n"
        for title, cells in table.items()
    )


def _copies(result: dict[str, Any]) -> str:
    rows = result["copies"]
    title = f"copied from the training part, in {rows[0]['characters']:,} characters"
    lines = [f"\n{title:60}{'longest run':>12}{f'{COPY}-grams':>12}"]
    for row in rows:
        held_out = row["text"] == "held-out"
        name = "held-out text" if held_out else f"samples of {_in_words(row['text'])}"
        share = "" if row["share"] is None else f"{row['share']:.2%}"
        lines.append(f"  {name:58}{row['longest']:12}{share:>12}".rstrip())
    run = "".join(map(glyph, rows[0]["run"][:LONGEST_QUOTE]))
    return "\n".join([*lines, f"  this model's longest: {run}"]) + "\n"


RENDERED = {
    "perplexity": _precision,
    "baselines": _baselines,
    "against_counting": _against_counting,
    "by_context": _by_context,
    "by_kind": _by_kind,
    "costliest": _costliest,
    "calibration": _calibration,
    "copies": _copies,
    "verdict": lambda result: f"\n{result['verdict']}\n",
}
