"""Characters <-> ids. The alphabet is the sorted set of the training text's characters."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt


class CharTokenizer:
    """One id for each character, in code-point order.

    >>> CharTokenizer("hello").encode("hole").tolist()
    [1, 3, 2, 0]
    """

    def __init__(self, alphabet: Iterable[str]):
        self.alphabet = "".join(sorted(set(alphabet)))
        # id of each code point; len(points) marks an unknown one, as does the last entry
        points = code_points(self.alphabet)
        width = np.min_scalar_type(len(points))
        self._ids = np.full(int(points.max(initial=0)) + 2, len(points), dtype=width)
        self._ids[points] = np.arange(len(points))
        self._points = points

    def __len__(self) -> int:
        return len(self.alphabet)

    @property
    def dtype(self) -> npt.DTypeLike:
        """The narrowest integer type that holds every id."""
        return np.min_scalar_type(max(len(self) - 1, 0))

    def encode(self, text: str) -> npt.NDArray[np.unsignedinteger]:
        """ids of `text`, shape (len(text),), dtype `self.dtype`.

        Raises:
            UnknownCharacter: at the first character that is not in the alphabet.
        """
        ids = self._ids.take(code_points(text), mode="clip")  # twice as fast as indexing
        unknown = ids == len(self)
        if unknown.any():
            raise UnknownCharacter(text, int(unknown.argmax()))
        return ids.astype(self.dtype, copy=False)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of `ids`, each in [0, len(self))."""
        chosen = np.asarray(list(ids) if not isinstance(ids, np.ndarray) else ids, dtype=np.int64)
        return self._points[chosen].astype("<u4").tobytes().decode("utf-32-le", "surrogatepass")

    def known(self, text: str) -> str:
        """`text` without the characters that are not in the alphabet."""
        alphabet = set(self.alphabet)
        return "".join(c for c in text if c in alphabet)


class UnknownCharacter(ValueError):
    """`text[position]` is not in the alphabet."""

    def __init__(self, text: str, position: int):
        self.character, self.position = text[position], position
        super().__init__(
            f"the model does not know {self.character!r} (U+{ord(self.character):04X}), "
            f"character {position + 1} of the text"
        )


def code_points(text: str) -> npt.NDArray[np.uint32]:
    """The code points of `text`, shape (len(text),); read-only."""
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype="<u4")
