-- Codes of passages' tokens, for late interaction without the model. The bytes are the engine's (`engine/token_codes.rs`),
-- with their version in front. A passage may be without: it was stored while `ingest.token_codes` was off, or by an
-- earlier version.
CREATE TABLE token_codes (
    chunk INTEGER PRIMARY KEY REFERENCES chunks (id) ON DELETE CASCADE,
    codes BLOB NOT NULL
) STRICT;
