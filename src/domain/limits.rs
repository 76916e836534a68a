//! Every limit on what a client may send or ask for, in one place.
//!
//! A request beyond a limit is refused with `INVALID_ARGUMENT`, the field's name and the limit; nothing is cut silently.

/// Bytes of one gRPC message, either way: 8 MiB. Bulk goes through the streaming `Upsert`.
pub const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes of a query's text: far beyond any model's window, short enough to tokenise in a millisecond.
pub const QUERY_BYTES_MAX: usize = 16 << 10;
/// Distinct words of a query that lexical retrieval looks for; later ones are left out.
pub const LEXICAL_TERMS_MAX: usize = 64;
/// Hits that one search returns when it does not say.
pub const LIMIT_DEFAULT: usize = 10;
/// Hits that one search may return.
pub const LIMIT_MAX: usize = 1_000;
/// Passages that the retrieval stage may hand on.
pub const CANDIDATES_MAX: usize = 2_000;
/// Times `candidates` that a search with bounded work may compare in full.
pub const OVERSAMPLING_MAX: u16 = 1_000;
/// Passages handed to a reranker when a request does not say (nDCG gains flatten beyond 50).
pub const CANDIDATES_DEFAULT: usize = 50;
/// Queries in one `BatchSearch`.
pub const BATCH_MAX: usize = 100;
/// Texts in one `Embed`.
pub const EMBED_TEXTS_MAX: usize = 256;
/// Documents in one `Rerank`.
pub const RERANK_DOCUMENTS_MAX: usize = 1_000;
/// Bytes of one document's text, over gRPC or from a file: 16 MiB of prose is some 30 novels.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// Bytes of one text given to `Embed` or `Rerank`.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Bytes of a document's id or source.
pub const ID_BYTES_MAX: usize = 1_024;
/// Bytes of a document's metadata as JSON.
pub const METADATA_BYTES_MAX: usize = 64 << 10;
/// Conditions in one filter.
pub const FILTER_CONDITIONS_MAX: usize = 32;
/// Values in one `any_of` condition.
pub const FILTER_VALUES_MAX: usize = 1_000;
/// Documents on one page of `ListDocuments` when a request does not say.
pub const PAGE_SIZE_DEFAULT: usize = 50;
/// Documents on one page of `ListDocuments`; larger requests are coerced down (AIP-158).
pub const PAGE_SIZE_MAX: usize = 1_000;
/// Passages that one hit may show.
pub const HIT_PASSAGES_MAX: usize = 4;
/// Characters of a snippet.
pub const SNIPPET_CHARS: usize = 240;
