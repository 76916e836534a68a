-- Version 1. A database of this version has application_id 0x414D4C46 ("AMLF") and user_version 1.
-- Times are milliseconds since 1970-01-01 UTC.

-- What is known of a document, its text left out: that is the concatenation of its chunks. `key` stays when a document
-- is replaced or renamed, so that edges which point at it survive.
CREATE TABLE documents (
    key          INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE CHECK (id <> ''),
    source       TEXT NOT NULL UNIQUE CHECK (source <> ''),
    title        TEXT NOT NULL,
    date         TEXT,
    type         TEXT,
    domain       TEXT,
    content_hash TEXT NOT NULL,
    created_ms   INTEGER NOT NULL,
    updated_ms   INTEGER NOT NULL,
    metadata     TEXT NOT NULL CHECK (json_type(metadata) = 'object'),
    -- 1 while a re-embedding has not come to it: its vectors are of an earlier model.
    stale        INTEGER NOT NULL DEFAULT 0 CHECK (stale IN (0, 1))
) STRICT;

-- Only what is left to re-embed; empty otherwise.
CREATE INDEX documents_stale ON documents (id) WHERE stale = 1;

-- Passages in the order of their document. AUTOINCREMENT, so that a number is never used twice and a vector never
-- changes under it. `text` begins with `overlap` bytes that repeat the end of the passage before. The index of the
-- UNIQUE constraint holds all that a filter needs, so filtering never reads text.
CREATE TABLE chunks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    document     INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    ordinal      INTEGER NOT NULL CHECK (ordinal >= 0),
    overlap      INTEGER NOT NULL CHECK (overlap >= 0),
    tokens       INTEGER NOT NULL CHECK (tokens >= 0),
    heading_path TEXT NOT NULL CHECK (json_type(heading_path) = 'array'),
    text         TEXT NOT NULL,
    UNIQUE (document, ordinal)
) STRICT;

-- The unit vectors of passages (little-endian f32), apart from their text: loading the engine reads this table alone. A
-- passage without direction has no row.
CREATE TABLE embeddings (
    chunk  INTEGER PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
    vector BLOB NOT NULL CHECK (length(vector) > 0)
) STRICT;

-- Only the numbers: «which chunks have a vector» reads some 10 bytes a chunk here instead of 1.5 kB in the table.
CREATE UNIQUE INDEX embedding_numbers ON embeddings (chunk);

-- What documents mention, as written. Kept so that references can be resolved again when documents come and go.
CREATE TABLE refs (
    document INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    kind     TEXT NOT NULL CHECK (kind IN ('cites', 'links_to', 'tagged_as')),
    target   TEXT NOT NULL,
    PRIMARY KEY (document, kind, target)
) STRICT, WITHOUT ROWID;

-- References that name a document of the index. Never dangling: the foreign keys see to it.
CREATE TABLE edges (
    from_document INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    to_document   INTEGER NOT NULL REFERENCES documents (key) ON DELETE CASCADE,
    kind          TEXT NOT NULL CHECK (kind IN ('cites', 'links_to', 'tagged_as')),
    PRIMARY KEY (from_document, to_document, kind)
) STRICT, WITHOUT ROWID;

-- Who mentions this document; also what deleting a document looks for.
CREATE INDEX edges_reverse ON edges (to_document, from_document, kind);

-- Single values: `model_identity` (JSON), `references_dangling` (a count), `lexical_tokenizer` (what the words were
-- indexed with).
CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
