"""The schema of a memory file: tables, readable views, and the numbered way from one version to the next.

Table, view and column names are an interface: people query them with SQL and in Datasette. Rules of the schema:

- Rows about responses are only ever added. A trigger refuses UPDATE and DELETE, so an id means the same row for ever
  and what is later thought of a response lives in `judgements` and `verdicts`.
- A unit of work and everything that it produced are one transaction; `units` is the journal, chained by hashes.
- Vectors are little-endian float32 unit vectors. They stand apart from their responses, because another embedder may
  replace them (`reembed`), and each carries a CRC-32 of its own.
- `texts` (full-text search) and `segments` (files of the vector index) are derived and in no hash.
"""

import sqlite3

APPLICATION_ID = 0x53494D31
"""`SIM1` in ASCII: marks the file as a response memory, and lets `file` and SQLite tools tell."""

PAGE_BYTES = 16384
"""Ten 384-dimensional vectors fit a page; the default of 4096 bytes would hold two and waste a quarter."""

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;

CREATE TABLE prompts (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  split TEXT NOT NULL CHECK (split IN ('train', 'heldout')),
  text TEXT NOT NULL,                  -- the last user turn, for reading and searching
  messages TEXT NOT NULL,              -- JSON list of {role, content}
  sha TEXT NOT NULL                    -- sha256 over id, split and messages
) STRICT;

CREATE TABLE prompt_vectors (
  seq INTEGER PRIMARY KEY REFERENCES prompts (seq),
  crc INTEGER NOT NULL,
  vector BLOB NOT NULL
) STRICT;

CREATE TABLE units (
  seq INTEGER PRIMARY KEY,
  id TEXT NOT NULL UNIQUE,
  round INTEGER NOT NULL,
  stage TEXT NOT NULL,
  idx INTEGER NOT NULL,
  policy TEXT NOT NULL,                -- '' for work that no policy did
  sampling TEXT,                       -- JSON, for units that generate
  payload TEXT,                        -- JSON, for units that report a result
  vectors INTEGER NOT NULL,            -- embedded responses: all of the unit's or none
  rows_sha TEXT NOT NULL,              -- sha256 over this unit and all its rows, times left out
  chain_sha TEXT NOT NULL,             -- sha256 over the chain_sha of the unit before and rows_sha
  wall_s REAL NOT NULL,
  committed_at TEXT NOT NULL,          -- UTC, ISO 8601
  UNIQUE (round, stage, idx)
) STRICT;

CREATE TABLE responses (
  id INTEGER PRIMARY KEY,
  unit TEXT NOT NULL REFERENCES units (id),
  slot INTEGER NOT NULL,               -- position in the unit
  prompt_id TEXT NOT NULL REFERENCES prompts (id),
  origin TEXT NOT NULL,
  finish TEXT NOT NULL,
  seed INTEGER NOT NULL,
  prompt_tokens INTEGER NOT NULL,
  new_tokens INTEGER NOT NULL,
  text TEXT NOT NULL,
  UNIQUE (unit, slot)
) STRICT;
CREATE INDEX responses_by_prompt ON responses (prompt_id);

CREATE TABLE response_vectors (
  id INTEGER PRIMARY KEY REFERENCES responses (id),
  crc INTEGER NOT NULL,
  vector BLOB NOT NULL
) STRICT;

CREATE TABLE parents (
  response_id INTEGER NOT NULL REFERENCES responses (id),
  position INTEGER NOT NULL,
  parent_id INTEGER NOT NULL REFERENCES responses (id),
  PRIMARY KEY (response_id, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX parents_by_parent ON parents (parent_id);

CREATE TABLE judgements (
  unit TEXT NOT NULL REFERENCES units (id),
  response_id INTEGER NOT NULL REFERENCES responses (id),
  answer TEXT,                         -- equivalence class; NULL when the response abstains
  weight REAL NOT NULL,
  share REAL,
  PRIMARY KEY (unit, response_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX judgements_by_response ON judgements (response_id);

CREATE TABLE tallies (
  unit TEXT NOT NULL REFERENCES units (id),
  prompt_id TEXT NOT NULL REFERENCES prompts (id),
  answer TEXT,
  agreement REAL NOT NULL,
  margin REAL NOT NULL,
  votes REAL NOT NULL,
  voters INTEGER NOT NULL,
  abstained INTEGER NOT NULL,
  PRIMARY KEY (unit, prompt_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX tallies_by_prompt ON tallies (prompt_id);

CREATE TABLE verdicts (
  unit TEXT NOT NULL REFERENCES units (id),
  response_id INTEGER NOT NULL REFERENCES responses (id),
  reason TEXT NOT NULL,
  value REAL,                          -- the number that decided
  bound REAL,                          -- the limit that it met
  weight REAL NOT NULL,
  PRIMARY KEY (unit, response_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX verdicts_by_response ON verdicts (response_id);

CREATE TABLE decisions (
  round INTEGER PRIMARY KEY,
  unit TEXT NOT NULL REFERENCES units (id),
  decision TEXT NOT NULL,
  because TEXT NOT NULL,
  policy TEXT NOT NULL                 -- the adapter that was judged
) STRICT;

CREATE TABLE moves (                   -- where `current` went; the last row is where it is
  seq INTEGER PRIMARY KEY,
  round INTEGER NOT NULL,
  policy TEXT NOT NULL,
  because TEXT NOT NULL,
  moved_at TEXT NOT NULL
) STRICT;

CREATE TABLE segments (                -- files of the vector index, a cache
  first_id INTEGER PRIMARY KEY,
  last_id INTEGER NOT NULL,
  file TEXT NOT NULL,
  sha256 TEXT NOT NULL
) STRICT;

CREATE VIRTUAL TABLE texts USING fts5 (prompt, response, content='');
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
SELECT r.id, u.round, u.stage, r.origin, r.prompt_id, p.split, p.text AS prompt, r.text AS response, r.finish,
       (SELECT j.answer FROM judgements j JOIN units w ON w.id = j.unit WHERE j.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS answer,
       (SELECT j.share FROM judgements j JOIN units w ON w.id = j.unit WHERE j.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS share,
       (SELECT v.reason FROM verdicts v JOIN units w ON w.id = v.unit WHERE v.response_id = r.id
        ORDER BY w.seq DESC LIMIT 1) AS reason,
       r.prompt_tokens, r.new_tokens, u.policy, r.unit, r.slot, r.seed
FROM responses r JOIN units u ON u.id = r.unit JOIN prompts p ON p.id = r.prompt_id;

CREATE VIEW votes AS                   -- how each prompt voted, each time
SELECT u.round, u.idx AS vote, u.stage, t.prompt_id, p.text AS prompt, t.answer, t.agreement, t.margin, t.votes,
       t.voters, t.abstained
FROM tallies t JOIN units u ON u.id = t.unit JOIN prompts p ON p.id = t.prompt_id;

CREATE VIEW kept AS                    -- the survivors: what was trained on
SELECT u.round, v.response_id, h.origin, h.prompt_id, h.prompt, h.response, v.weight, h.round AS written_in
FROM verdicts v JOIN units u ON u.id = v.unit JOIN history h ON h.id = v.response_id
WHERE v.reason = 'kept';

CREATE VIEW dropped AS                 -- what was not, why, and by how much
SELECT u.round, v.response_id, h.origin, h.prompt_id, h.prompt, h.response, v.reason, v.value, v.bound,
       h.round AS written_in
FROM verdicts v JOIN units u ON u.id = v.unit JOIN history h ON h.id = v.response_id
WHERE v.reason <> 'kept';

CREATE VIEW lineage AS                 -- who was shown, or continued, whom
SELECT l.response_id, c.round, c.origin, c.prompt, c.response, l.position, l.parent_id, a.round AS parent_round,
       a.origin AS parent_origin, a.prompt AS parent_prompt, a.response AS parent_response
FROM parents l JOIN history c ON c.id = l.response_id JOIN history a ON a.id = l.parent_id;

CREATE VIEW rounds AS                  -- one line a round
SELECT s.round, s.responses, s.new_tokens, s.wall_s,
       (SELECT count(*) FROM verdicts v JOIN units u ON u.id = v.unit WHERE u.round = s.round AND v.reason = 'kept')
         AS kept,
       (SELECT count(*) FROM verdicts v JOIN units u ON u.id = v.unit WHERE u.round = s.round AND v.reason <> 'kept')
         AS dropped,
       d.decision, d.because, d.policy
FROM (SELECT u.round, sum(u.wall_s) AS wall_s, sum(coalesce(n.responses, 0)) AS responses,
             sum(coalesce(n.new_tokens, 0)) AS new_tokens
      FROM units u LEFT JOIN (SELECT unit, count(*) AS responses, sum(new_tokens) AS new_tokens
                              FROM responses GROUP BY unit) n ON n.unit = u.id
      GROUP BY u.round) s
LEFT JOIN decisions d ON d.round = s.round;
"""


def _triggers() -> str:
    return "".join(
        f"CREATE TRIGGER {table}_no_{verb} BEFORE {verb.upper()} ON {table} "
        f"BEGIN SELECT raise(ABORT, '{table} is append-only'); END;\n"
        for table in APPEND_ONLY
        for verb in ("update", "delete")
    )


MIGRATIONS: tuple[str, ...] = (TABLES + VIEWS + _triggers(),)
"""`MIGRATIONS[n]` takes a file from version n to n + 1. Released entries are never edited; new ones are appended."""


def migrate(connection: sqlite3.Connection, migrations: tuple[str, ...]) -> None:
    """Bring the file up to `len(migrations)`, each step in a transaction of its own that also moves `user_version`."""
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
