"""A look at the text in a few lines: its size, and what is odd about it and what is done with it.

What is normal is not said. Each bound has its reason beside it.
"""

import codecs
import unicodedata
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from gpt.data.passages import LENGTH, Places, share_seen_before
from gpt.data.shares import SEPARATOR, Source, split_sizes
from gpt.data.survey import Survey
from gpt.data.text import has_bom

RARE = 10  # occurrences in training; a character with fewer has hardly a context to be learned from
MOST_RARE = 0.2  # of the alphabet: below, rare ones are the usual tail; above, they fill the tables
LITTLE = 20_000  # characters: in less text most characters are rare
HALF = 0.5  # of the text is one character: its loss then tells of that character alone
SEEN = 0.01  # of the validation part: less moves its loss by less than what seeds do
LINE = 2000  # characters: longer lines are no lines to read, and samples cannot end at their ends
LINE_END = "\n"
SHOWN = 8  # characters in a line of the report
PIECE = 1 << 20  # ids that are counted at once

Ids = npt.NDArray[np.unsignedinteger]


def report_of(source: Source, survey: Survey, val_ids: Ids, passages: Places) -> tuple[str, ...]:
    """The lines of the report; the first is always there."""
    train, val = split_sizes(survey.lengths, source.val_fraction)
    counted = dict(zip(survey.alphabet, survey.counts, strict=True))
    if separators := train + val - sum(survey.lengths):
        counted[SEPARATOR[0]] += separators  # it is nothing but line ends
    where = "the last" if len(source.texts) == 1 else "at the end of each file, in all"
    return (
        f"{train + val:,} characters, {len(counted)} distinct, "
        f"{_many(counted.get(LINE_END, 0), 'line')}; {where} {val:,} are kept for validation",
        *_bytes_that_were_left_out(source, survey),
        *_odd_characters(counted, survey.composes),
        *_unlike_shares(counted, count_of_each(val_ids, len(counted))),
        *_copies(share_seen_before(passages, train)),
    )


def _bytes_that_were_left_out(source: Source, survey: Survey) -> Iterator[str]:
    """Marks of byte order, and the CR of CR LF: what the files have and the text has not."""
    marks = sum(map(has_bom, source.texts))
    if marks:
        files = "" if len(source.texts) == 1 else f" of {_many(marks, 'file')}"
        yield f"a byte order mark (BOM) at the start{files} is left out"
    points = np.array([ord(character) for character in survey.alphabet])
    widths = 1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF)
    in_files = sum(path.stat().st_size for path in source.texts) - len(codecs.BOM_UTF8) * marks
    crs = in_files - int(np.dot(widths, survey.counts))
    if crs > 0:
        yield f"{_many(crs, 'line end')} of CR LF, as on Windows: read as line ends alone"


def _odd_characters(counted: dict[str, int], composes: bool) -> Iterator[str]:
    control = [c for c in counted if _is_control(c) and counted[c]]
    if control:
        yield f"control characters are kept, as any other: {_listed(control, counted)}"
    if lost := counted.get("\ufffd"):
        yield (
            f"U+FFFD stands {_many(lost, 'time')} for what an earlier conversion lost; it is kept: "
            "better convert the text anew"
        )
    if composes and (pair := _two_ways(counted)):
        composed, parts = pair
        yield (
            f"{composed} is there as one character, and letters as {parts}: two spellings of the "
            "same are kept; better normalise the text to NFC"
        )
    size = sum(counted.values())
    most = max(counted, key=lambda c: counted[c])
    if counted[most] > HALF * size:
        yield f"{name_of(most)} makes up {counted[most] / size:.0%} of the text"
    lines = counted.get(LINE_END, 0)
    if lines * LINE < size:
        yield f"hardly a line end: {lines:,} in {size:,} characters"


def _unlike_shares(counted: dict[str, int], val: npt.NDArray[np.int64]) -> Iterator[str]:
    """Characters that training never or seldom shows."""
    train = np.array(list(counted.values())) - val
    new = {c: int(n) for c, t, n in zip(counted, train, val, strict=True) if n and not t}
    if new:
        yield (
            f"the validation part has {_many(len(new), 'character')} that training never "
            f"shows: {_listed(list(new), new)}"
        )
    rare = (train > 0) & (train < RARE)
    if train.sum() > LITTLE and rare.sum() > MOST_RARE * len(counted):
        yield (
            f"{rare.sum():,} of the {len(counted):,} characters are rare, below {RARE} times in "
            "training: the model learns little of them"
        )


def _copies(share: float) -> Iterator[str]:
    if share > SEEN:
        yield (
            f"about {share:.0%} of the validation part stands in the training part too, in "
            f"passages of {LENGTH} characters and more: its loss is lower than on new text"
        )


def count_of_each(ids: Ids, distinct: int) -> npt.NDArray[np.int64]:
    """How often each id occurs; in pieces, as numpy's counting needs eight times their size."""
    counts = np.zeros(distinct, dtype=np.int64)
    for start in range(0, len(ids), PIECE):
        counts += np.bincount(ids[start : start + PIECE], minlength=distinct)
    return counts


def _two_ways(alphabet: Iterable[str]) -> tuple[str, str] | None:
    """A character, and a pair such as e + U+0301, of which the alphabet could hold either."""
    there = set(alphabet)
    for character in alphabet:
        parts = unicodedata.normalize("NFD", character)
        if len(parts) == 2 and there.issuperset(parts):
            return character, f"{parts[0]} + U+{ord(parts[1]):04X}"
    return None


def _is_control(character: str) -> bool:
    """Also U+FEFF: the byte order mark of a file that was appended to another."""
    return (unicodedata.category(character) == "Cc" and character not in "\n\t") or (
        character == "\ufeff"
    )


def _listed(characters: list[str], counted: dict[str, int]) -> str:
    """The most frequent ones with their counts, and how many more there are."""
    characters = sorted(characters, key=lambda c: -counted[c])
    more = f", {len(characters) - SHOWN} more" if len(characters) > SHOWN else ""
    return ", ".join(f"{name_of(c)} ({counted[c]:,})" for c in characters[:SHOWN]) + more


def name_of(character: str) -> str:
    """A character as a line shows it: itself if it can be seen, else its code point."""
    if character in (" ", LINE_END):
        return "the space" if character == " " else "the line end"
    category = unicodedata.category(character)
    return character if category[0] in "LNPS" else f"U+{ord(character):04X}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
