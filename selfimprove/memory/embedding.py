"""Vectors of responses, made when something compares them: most responses of a round are never compared.

What a round reads is embedded in it: the demonstration pools of its votes, and the candidates that pass select's gates.
`embed_rest` embeds the others, for searches over all responses.
"""

import json
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from ..types import CANDIDATES, Prompt
from .near_duplicates import Encode
from .store.memory import ResponseMemory

CHUNK = 4096
"""Texts embedded per commit."""


def text_of(prompt: Prompt, shown: str) -> str:
    """Return what is embedded of a response: its prompt's conversation, and the response without its reasoning."""
    return f"{prompt.conversation}\n{shown}"


def vectors_of(memory: ResponseMemory, texts: Mapping[int, str], encode: Encode) -> tuple[np.ndarray, np.ndarray]:
    """Return the vectors of responses by id, with the text of each as from `text_of`: ids (n,) ascending, rows (n, d).

    Missing ones are computed, and stored if the memory is open for writing: a chunk per commit, in the order of ids, so
    that a run that was killed ends with the same bytes.
    """
    ids, vectors = memory.embedded(list(texts))
    missing = sorted(texts.keys() - set(ids.tolist()))
    if not missing:
        return ids, vectors
    known = dict(zip(ids.tolist(), vectors, strict=True))
    for start in range(0, len(missing), CHUNK):
        some = missing[start : start + CHUNK]
        computed = encode([texts[id_] for id_ in some])
        if memory.db.writable:
            memory.commit_vectors(some, computed)
        known |= dict(zip(some, computed, strict=True))
    every = sorted(known)
    return np.array(every, dtype=np.int64), np.stack([known[id_] for id_ in every])


def embeddable(memory: ResponseMemory) -> int:
    """Return the number of responses that can have a vector: those that can be candidates."""
    sql = "SELECT count(*) FROM responses WHERE origin IN (SELECT value FROM json_each(?))"
    return int(memory.db.rows(sql, (json.dumps(CANDIDATES),))[0][0])


def embed_rest(memory: ResponseMemory, encode: Encode, shown: Callable[[str], str]) -> Iterator[int]:
    """Embed all candidates that have no vector, a chunk per commit; yield how many are done after each.

    `shown` cuts a response to what follows its reasoning. A call that was stopped is continued by the next.
    """
    prompts = {prompt.id: prompt for prompt in memory.prompts()}
    sql = """SELECT id, prompt_id, text FROM responses r WHERE origin IN (SELECT value FROM json_each(?))
             AND NOT EXISTS (SELECT 1 FROM response_vectors v WHERE v.id = r.id) ORDER BY id LIMIT ?"""
    done = 0
    while rows := memory.db.rows(sql, (json.dumps(CANDIDATES), CHUNK)):
        vectors_of(memory, {id_: text_of(prompts[prompt_id], shown(text)) for id_, prompt_id, text in rows}, encode)
        done += len(rows)
        yield done
