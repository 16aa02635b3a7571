"""The schema of a memory file: tables, readable views, and migrations.

Table, view and column names are an interface: people query them with SQL and in Datasette. Rules of the schema:

- Rows about responses are append-only: triggers refuse UPDATE and DELETE. Votes and verdicts on a response are rows of
  `judgements` and `verdicts`.
- A unit of work and everything that it produced are one transaction; `units` is the journal, chained by hashes.
- Vectors are little-endian float32 unit vectors. They are in tables of their own, because another embedder may
  replace them (`reembed`), each with a CRC-32.
- `texts` (full-text search) and `segments` (files of the vector index) are derived data and not hashed.
- Every table, view and column is described by `-- words` after its name, which `dictionary` reads. A column of a view
  without words has the meaning of the first column of that name.
"""

import sqlite3
from collections.abc import Sequence

from ..search.full_text import spaced

APPLICATION_ID = 0x53494D31
"""`SIM1` in ASCII: marks the file as a response memory for SQLite and `file`."""

PAGE_BYTES = 16384
"""Ten 384-dimensional vectors fit a page; the default of 4096 bytes would hold two and waste a quarter."""

TABLES = """
CREATE TABLE meta (                    -- facts about the run that must not change: fingerprints
  key TEXT PRIMARY KEY,                -- model, embedder or prompts
  value TEXT NOT NULL                  -- the fingerprint
) STRICT, WITHOUT ROWID;

CREATE TABLE prompts (                 -- what is asked; a prompt never changes sides
  seq INTEGER PRIMARY KEY,             -- order in the file
  id TEXT NOT NULL UNIQUE,             -- hash of the messages
  split TEXT NOT NULL CHECK (split IN ('train', 'heldout')), -- train: learned from; heldout: only ever measured
  text TEXT NOT NULL,                  -- the last user turn, for reading and searching
  messages TEXT NOT NULL,              -- JSON list of {role, content}
  sha TEXT NOT NULL                    -- sha256 over id, split and messages
) STRICT;

CREATE TABLE prompt_vectors (          -- embeddings of prompts
  seq INTEGER PRIMARY KEY REFERENCES prompts (seq), -- the prompt
  crc INTEGER NOT NULL,                -- CRC-32 of vector
  vector BLOB NOT NULL                 -- little-endian float32, a unit vector
) STRICT;

CREATE TABLE units (                   -- the journal: every unit of work, in the order of the commits
  seq INTEGER PRIMARY KEY,             -- order of the commits
  id TEXT NOT NULL UNIQUE,             -- round, stage and idx in one name
  round INTEGER NOT NULL,              -- round that did it; 0: before the first
  stage TEXT NOT NULL,                 -- what was done
  idx INTEGER NOT NULL,                -- which unit, or which vote, of the stage
  policy TEXT NOT NULL,                -- the model that wrote it; '' for work that no policy did
  sampling TEXT,                       -- JSON, for units that generate
  payload TEXT,                        -- JSON, for units that report a result or came from a file
  vectors INTEGER NOT NULL,            -- responses that were embedded with the unit; others are when they are compared
  rows_sha TEXT NOT NULL,              -- sha256 over this unit and all its rows, times left out
  chain_sha TEXT NOT NULL,             -- sha256 over the chain_sha of the unit before and rows_sha
  wall_s REAL NOT NULL,                -- seconds it took
  committed_at TEXT NOT NULL,          -- UTC, ISO 8601
  UNIQUE (round, stage, idx)
) STRICT;

CREATE TABLE responses (               -- every response ever written
  id INTEGER PRIMARY KEY,              -- order in which responses were committed
  unit TEXT NOT NULL REFERENCES units (id), -- the unit of work that it came with
  slot INTEGER NOT NULL,               -- position in the unit
  prompt_id TEXT NOT NULL REFERENCES prompts (id), -- the prompt that it answers
  origin TEXT NOT NULL,                -- how it came to be: sample, exemplar, critique, revise, stitch, ...
  finish TEXT NOT NULL,                -- stop: the model ended its turn; length: it was cut
  seed INTEGER NOT NULL,               -- seed of its sampling
  prompt_tokens INTEGER NOT NULL,      -- tokens that the model was shown
  new_tokens INTEGER NOT NULL,         -- tokens that it wrote
  text TEXT NOT NULL,                  -- what it wrote
  UNIQUE (unit, slot)
) STRICT;
CREATE INDEX responses_by_prompt ON responses (prompt_id);

CREATE TABLE response_vectors (        -- embeddings of responses, prompt included
  id INTEGER PRIMARY KEY REFERENCES responses (id), -- the response
  crc INTEGER NOT NULL,                -- CRC-32 of vector
  vector BLOB NOT NULL                 -- little-endian float32, a unit vector
) STRICT;

CREATE TABLE parents (                 -- which responses a response was shown, or continues
  response_id INTEGER NOT NULL REFERENCES responses (id), -- the response that was written
  position INTEGER NOT NULL,           -- order in which the parents were shown
  parent_id INTEGER NOT NULL REFERENCES responses (id), -- the response that it was made from
  PRIMARY KEY (response_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX parents_by_parent ON parents (parent_id);

CREATE TABLE judgements (              -- what each vote says of each response
  unit TEXT NOT NULL REFERENCES units (id), -- the vote
  response_id INTEGER NOT NULL REFERENCES responses (id), -- the response that was read
  answer TEXT,                         -- equivalence class; NULL when the response abstains
  weight REAL NOT NULL,                -- weight of its vote
  share REAL,                          -- share of the votes that its answer got, in [0, 1]
  PRIMARY KEY (unit, response_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX judgements_by_response ON judgements (response_id);

CREATE TABLE tallies (                 -- how each vote on each prompt ended
  unit TEXT NOT NULL REFERENCES units (id), -- the vote
  prompt_id TEXT NOT NULL REFERENCES prompts (id), -- the prompt that was voted on
  answer TEXT,                         -- the winner; NULL when nobody answered
  agreement REAL NOT NULL,             -- share of the top answer, in [0, 1]
  margin REAL NOT NULL,                -- top minus runner-up share
  votes REAL NOT NULL,                 -- weight of all votes cast
  voters INTEGER NOT NULL,             -- responses in which an answer was read
  abstained INTEGER NOT NULL,          -- responses in which none was
  PRIMARY KEY (unit, prompt_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tallies_by_prompt ON tallies (prompt_id);

CREATE TABLE verdicts (                -- what select decided on each candidate
  unit TEXT NOT NULL REFERENCES units (id), -- the selection
  response_id INTEGER NOT NULL REFERENCES responses (id), -- the candidate
  reason TEXT NOT NULL,                -- kept, or why not
  value REAL,                          -- the number that decided
  bound REAL,                          -- the limit that it met
  weight REAL NOT NULL,                -- weight in training; 0 when dropped
  PRIMARY KEY (unit, response_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX verdicts_by_response ON verdicts (response_id);

CREATE TABLE decisions (               -- the guard's word on each round
  round INTEGER PRIMARY KEY,           -- the round
  unit TEXT NOT NULL REFERENCES units (id), -- the guard's unit; its payload holds every check
  decision TEXT NOT NULL,              -- keep, reject or stop
  because TEXT NOT NULL,               -- the checks that failed, with value and limit
  policy TEXT NOT NULL                 -- the adapter that was judged
) STRICT;

CREATE TABLE moves (                   -- where `current` went; the last row is where it is
  seq INTEGER PRIMARY KEY,             -- order of the moves
  round INTEGER NOT NULL,              -- the round whose policy it went to
  policy TEXT NOT NULL,                -- the policy that became current
  because TEXT NOT NULL,               -- the guard's reason, or rollback
  moved_at TEXT NOT NULL               -- UTC, ISO 8601
) STRICT;

CREATE TABLE segments (                -- files of the vector index, a cache
  first_id INTEGER PRIMARY KEY,        -- first response in the file
  last_id INTEGER NOT NULL,            -- last response in the file
  file TEXT NOT NULL,                  -- name in the folder beside the memory
  sha256 TEXT NOT NULL                 -- hash of the file; another file is never read
) STRICT;

CREATE VIRTUAL TABLE texts USING fts5 (prompt, response, content=''); -- words of prompts and responses, for search
"""

APPEND_ONLY = (
    "prompts",
    "units",
    "responses",
    "parents",
    "judgements",
    "tallies",
    "verdicts",
    "decisions",
    "moves",
)

VIEWS = """
CREATE VIEW history AS                 -- every response, readable, with the last vote and the last verdict on it
SELECT r.id,                           -- the response
       u.round, u.stage, r.origin, r.prompt_id, p.split,
       p.text AS prompt,               -- the last user turn of the prompt
       r.text AS response,             -- what was written
       r.finish,
       (SELECT j.answer FROM judgements j JOIN units w ON w.id = j.unit WHERE j.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS answer, -- equivalence class that the last vote read in it; NULL: none
       (SELECT j.share FROM judgements j JOIN units w ON w.id = j.unit WHERE j.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS share, -- share of the last vote that its answer got, in [0, 1]
       (SELECT v.reason FROM verdicts v JOIN units w ON w.id = v.unit WHERE v.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS reason, -- kept, or why not: the last verdict on it
       r.prompt_tokens, r.new_tokens, u.policy, r.unit, r.slot, r.seed
FROM responses r JOIN units u ON u.id = r.unit JOIN prompts p ON p.id = r.prompt_id;

CREATE VIEW votes AS                   -- how each prompt voted, each time
SELECT u.round,
       u.idx AS vote,                  -- which vote of the round
       u.stage, t.prompt_id,
       p.text AS prompt,               -- the last user turn of the prompt
       t.answer,                       -- the winner; NULL when nobody answered
       t.agreement, t.margin, t.votes, t.voters, t.abstained
FROM tallies t JOIN units u ON u.id = t.unit JOIN prompts p ON p.id = t.prompt_id;

CREATE VIEW kept AS                    -- the survivors: what was trained on
SELECT u.round,                        -- round that trained on it
       v.response_id,                  -- the survivor
       h.origin, h.prompt_id, h.prompt, h.response,
       v.weight,                       -- weight in training
       h.round AS written_in           -- round in which it was written
FROM verdicts v JOIN units u ON u.id = v.unit JOIN history h ON h.id = v.response_id
WHERE v.reason = 'kept';

CREATE VIEW dropped AS                 -- what was not, why, and by how much
SELECT u.round,                        -- round that dropped it
       v.response_id,                  -- the candidate
       h.origin, h.prompt_id, h.prompt, h.response, v.reason,
       v.value,                        -- the number that decided
       v.bound,
       h.round AS written_in           -- round in which it was written
FROM verdicts v JOIN units u ON u.id = v.unit JOIN history h ON h.id = v.response_id
WHERE v.reason <> 'kept';

CREATE VIEW lineage AS                 -- who was shown, or continued, whom
SELECT l.response_id,
       c.round,                        -- round in which the response was written
       c.origin, c.prompt, c.response, l.position, l.parent_id,
       a.round AS parent_round,        -- round in which the parent was written
       a.origin AS parent_origin,      -- how the parent came to be
       a.prompt AS parent_prompt,      -- what the parent answers
       a.response AS parent_response   -- what the parent says
FROM parents l JOIN history c ON c.id = l.response_id JOIN history a ON a.id = l.parent_id;

CREATE VIEW rounds AS                  -- one line a round
SELECT s.round,                        -- the round; 0: before the first
       s.responses,                    -- responses written
       s.new_tokens,                   -- tokens written
       s.wall_s,                       -- seconds of all its units
       (SELECT count(*) FROM verdicts v JOIN units u ON u.id = v.unit WHERE u.round = s.round AND v.reason = 'kept')
         AS kept,                      -- survivors
       (SELECT count(*) FROM verdicts v JOIN units u ON u.id = v.unit WHERE u.round = s.round AND v.reason <> 'kept')
         AS dropped,                   -- candidates that were not kept
       d.decision, d.because,
       d.policy                        -- the adapter that was judged
FROM (SELECT u.round, sum(u.wall_s) AS wall_s, sum(coalesce(n.responses, 0)) AS responses,
             sum(coalesce(n.new_tokens, 0)) AS new_tokens
      FROM units u LEFT JOIN (SELECT unit, count(*) AS responses, sum(new_tokens) AS new_tokens
                              FROM responses GROUP BY unit) n ON n.unit = u.id
      GROUP BY u.round) s
LEFT JOIN decisions d ON d.round = s.round;
"""


def _triggers(tables: Sequence[str] = APPEND_ONLY) -> str:
    return "".join(
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
        f"BEGIN SELECT raise(ABORT, '{table} is append-only'); END;\n"
        for table in tables
        for verb in ("update", "delete")
    )


SPLIT_TEXTS = """
DROP TABLE texts;

CREATE VIRTUAL TABLE texts USING fts5  -- for search: words, and characters of scripts without spaces
  (prompt, response, content='', tokenize="unicode61 categories 'L* M* N* Co'");

INSERT INTO texts (rowid, prompt, response)
  SELECT r.id, spaced(p.text), spaced(r.text) FROM responses r JOIN prompts p ON p.id = r.prompt_id;
"""

LIVING = """
CREATE TABLE sources (                 -- where responses that were brought in are from
  response_id INTEGER PRIMARY KEY REFERENCES responses (id), -- the response
  place TEXT NOT NULL,                 -- name of the run or file
  ref TEXT NOT NULL,                   -- id in that run, or line of that file
  round INTEGER,                       -- round of that run that wrote it; NULL for a file
  policy TEXT,                         -- policy or model that wrote it there; NULL: not known
  age INTEGER NOT NULL,                -- rounds that followed it in that run
  weight REAL                          -- weight of its vote; NULL: as of a response of its age
) STRICT;

CREATE TABLE overlays (                -- what people said of responses; the last word of each kind holds
  unit TEXT NOT NULL REFERENCES units (id), -- the command, with its time
  response_id INTEGER NOT NULL REFERENCES responses (id), -- the response
  action TEXT NOT NULL CHECK (action IN ('exclude', 'unexclude', 'pin', 'unpin', 'note')), -- what was said
  reason TEXT NOT NULL,                -- why, or the note
  PRIMARY KEY (unit, response_id, action)
) STRICT, WITHOUT ROWID;
CREATE INDEX overlays_by_response ON overlays (response_id);

CREATE VIEW curated AS                 -- what holds of each response that people said something of
SELECT s.response_id,                  -- the response
       (SELECT o.action = 'exclude' FROM overlays o JOIN units u ON u.id = o.unit WHERE o.response_id = s.response_id
        AND o.action IN ('exclude', 'unexclude') ORDER BY u.seq DESC LIMIT 1) IS TRUE
         AS excluded,                  -- 1: never recalled, never voting, never selected
       (SELECT o.action = 'pin' FROM overlays o JOIN units u ON u.id = o.unit WHERE o.response_id = s.response_id
        AND o.action IN ('pin', 'unpin') ORDER BY u.seq DESC LIMIT 1) IS TRUE
         AS pinned,                    -- 1: the demonstration of its prompt
       (SELECT o.reason FROM overlays o JOIN units u ON u.id = o.unit WHERE o.response_id = s.response_id
        AND o.action = 'note' ORDER BY u.seq DESC LIMIT 1) AS note, -- the last note
       (SELECT o.reason FROM overlays o JOIN units u ON u.id = o.unit WHERE o.response_id = s.response_id
        AND o.action <> 'note' ORDER BY u.seq DESC LIMIT 1) AS because, -- why it was last excluded, pinned or released
       (SELECT max(u.committed_at) FROM overlays o JOIN units u ON u.id = o.unit WHERE o.response_id = s.response_id)
         AS at                         -- time of the last word, UTC
FROM (SELECT DISTINCT response_id FROM overlays) s;

DROP VIEW history;

CREATE VIEW history AS                 -- every response, readable, with the last vote and the last verdict on it
SELECT r.id,                           -- the response
       u.round, u.stage, r.origin, r.prompt_id, p.split,
       p.text AS prompt,               -- the last user turn of the prompt
       r.text AS response,             -- what was written
       r.finish,
       (SELECT j.answer FROM judgements j JOIN units w ON w.id = j.unit WHERE j.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS answer, -- equivalence class that the last vote read in it; NULL: none
       (SELECT j.share FROM judgements j JOIN units w ON w.id = j.unit WHERE j.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS share, -- share of the last vote that its answer got, in [0, 1]
       (SELECT v.reason FROM verdicts v JOIN units w ON w.id = v.unit WHERE v.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS reason, -- kept, or why not: the last verdict on it
       r.prompt_tokens, r.new_tokens, u.policy, r.unit, r.slot, r.seed,
       (SELECT s.place || ' ' || s.ref FROM sources s WHERE s.response_id = r.id)
         AS source,                    -- run or file that it is from; NULL: written in this run
       (SELECT CASE WHEN c.excluded THEN 'excluded' WHEN c.pinned THEN 'pinned' END FROM curated c
        WHERE c.response_id = r.id) AS curation -- excluded, pinned or NULL
FROM responses r JOIN units u ON u.id = r.unit JOIN prompts p ON p.id = r.prompt_id;

DROP VIEW rounds;

CREATE VIEW rounds AS                  -- one line a round
SELECT s.round,                        -- the round; 0: before the first
       s.responses,                    -- responses written, those brought in aside
       s.new_tokens,                   -- tokens written
       s.wall_s,                       -- seconds of all its units
       (SELECT count(*) FROM verdicts v JOIN units u ON u.id = v.unit WHERE u.round = s.round AND v.reason = 'kept')
         AS kept,                      -- survivors
       (SELECT count(*) FROM verdicts v JOIN units u ON u.id = v.unit WHERE u.round = s.round AND v.reason <> 'kept')
         AS dropped,                   -- candidates that were not kept
       d.decision, d.because,
       d.policy                        -- the adapter that was judged
FROM (SELECT u.round, sum(u.wall_s) AS wall_s, sum(coalesce(n.responses, 0)) AS responses,
             sum(coalesce(n.new_tokens, 0)) AS new_tokens
      FROM units u LEFT JOIN (SELECT unit, count(*) AS responses, sum(new_tokens) AS new_tokens
                              FROM responses GROUP BY unit) n ON n.unit = u.id AND u.stage <> 'import'
      GROUP BY u.round) s
LEFT JOIN decisions d ON d.round = s.round;
""" + _triggers(("sources", "overlays"))

MIGRATIONS: tuple[str, ...] = (TABLES + VIEWS + _triggers(), SPLIT_TEXTS, LIVING)
"""`MIGRATIONS[n]` takes a file from version n to n + 1. Released entries are never edited; new ones are appended."""

OLDEST_READABLE = 1
"""Oldest version that can be read without a migration. A writer migrates first."""


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...]) -> None:
    """Migrate the file to version `len(migrations)`; each step is one transaction, `user_version` included."""
    connection.create_function("spaced", 1, spaced, deterministic=True)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    for number in range(version, len(migrations)):
        try:
            connection.executescript(
                f"BEGIN IMMEDIATE; {migrations[number]} PRAGMA application_id = {APPLICATION_ID};"
                f"PRAGMA user_version = {number + 1}; COMMIT;"
            )
        finally:
            if connection.in_transaction:
                connection.rollback()
