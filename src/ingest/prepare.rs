//! Document → passages → vectors: all that is done before a document can be written.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Config;
use super::chunk::{self, Cut, Window};
use super::markdown::{self, Outline};
use crate::domain::{Chunk, Document, EdgeKind, Reference, limits};
use crate::engine::TokenCoder;
use crate::error::{Error, Result};
use crate::model::{Embedded, Model, TokenVectors};
use crate::store::PreparedDocument;
use crate::telemetry::metrics;

/// Kibibytes of text that may be between reading and commit at a time: two documents of the largest size. With a vector of
/// 384 coordinates for each passage it comes to some 100 MiB.
const IN_FLIGHT_KIB: u32 = (2 * limits::DOCUMENT_BYTES_MAX / 1024) as u32;
/// Text takes so many times its room when tokens are coded: 50 bytes for four of text, so one document of the largest size,
/// with 200 MiB of codes, at a time.
const CODED_ROOM: usize = 2;
/// Passages of one document given to the model at a time, and how often: enough for every session to stay busy.
const PASSAGES: usize = 64;
const PASSAGES_IN_FLIGHT: usize = 2;
/// Tokens of the smallest window: less is no passage.
const WINDOW_TOKENS_MIN: usize = 16;

/// Cuts and embeds; a cheap clone.
#[derive(Clone)]
pub(super) struct Preparer {
    model: Model,
    window: Window,
    format: String,
    /// `None` when no codes are kept.
    token_coder: Option<TokenCoder>,
    in_flight: Arc<Semaphore>,
}

/// A document that is cut but not embedded.
#[derive(Debug)]
pub(super) struct Draft {
    pub document: Document,
    content_hash: String,
    cuts: Vec<Cut>,
    references: Vec<Reference>,
}

/// The room that a document takes until it is committed.
pub(super) type Room = OwnedSemaphorePermit;

impl Preparer {
    pub fn new(config: &Config, model: Model) -> Self {
        let room = model.passage_tokens_max().max(WINDOW_TOKENS_MIN);
        let wanted = if config.chunk_tokens == 0 { room } else { config.chunk_tokens };
        let window = Window { tokens: wanted.clamp(WINDOW_TOKENS_MIN, room), overlap: config.overlap_tokens };
        // Not the model's window: a re-embedding must not make every file look changed.
        let format = format!("amalfa {} {} {}\n", chunk::VERSION, config.chunk_tokens, config.overlap_tokens);
        let token_coder = config.token_codes.then(|| TokenCoder::new(model.identity().dimension)).flatten();
        Self { model, window, format, token_coder, in_flight: Arc::new(Semaphore::new(IN_FLIGHT_KIB as usize)) }
    }

    /// Returns the hash of a file's content, in hex: with the same one there is nothing to do.
    pub fn hash(&self, content: &[u8]) -> String {
        let digest = Sha256::new().chain_update(&self.format).chain_update(content).finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Returns the hash of all that a document says, its names left out, so that it can be renamed.
    pub fn hash_document(&self, document: &Document) -> String {
        let Document { title, text, date, kind, domain, metadata, .. } = document;
        // The keys of a JSON map are in order.
        let said = json!({
            "title": title, "text": text, "date": date, "type": kind, "domain": domain, "metadata": metadata
        });
        self.hash(said.to_string().as_bytes())
    }

    /// Waits until there is room for a document's text.
    pub async fn room(&self, document: &Document) -> Result<Room> {
        let times = if self.token_coder.is_some() { CODED_ROOM } else { 1 };
        let kib = u32::try_from(times * (document.text.len() / 1024 + 1)).unwrap_or(u32::MAX).min(IN_FLIGHT_KIB);
        let room = Arc::clone(&self.in_flight).acquire_many_owned(kib).await;
        room.map_err(|error| Error::internal("cannot wait for room", error))
    }

    /// Cuts a document and finds what it mentions; one without a title gets its first heading. Blocking: some
    /// milliseconds for each 100 KiB.
    pub fn draft(&self, mut document: Document, content_hash: String) -> Result<Draft> {
        let Outline { headings, references } = markdown::outline(&document.text);
        if document.title.is_empty() {
            let heading = headings.iter().find(|heading| !heading.text.is_empty());
            document.title = heading.map(|heading| heading.text.clone()).unwrap_or_default();
        }
        let tokenizer = |text: &str| self.model.token_offsets(text);
        let cuts = chunk::cut(&document.title, &document.text, &headings, self.window, &tokenizer)?;
        let references = references.into_iter().chain(tags(&document)).collect();
        Ok(Draft { document, content_hash, cuts, references })
    }

    /// As [`Self::draft`], on a blocking thread.
    pub async fn draft_off_thread(&self, document: Document, content_hash: String) -> Result<Draft> {
        let preparer = self.clone();
        let draft = tokio::task::spawn_blocking(move || preparer.draft(document, content_hash)).await;
        draft.map_err(|error| Error::internal("the thread that cuts documents failed", error))?
    }

    /// Embeds a document's passages.
    pub async fn embed(&self, draft: Draft) -> Result<PreparedDocument> {
        let Draft { document, content_hash, cuts, references } = draft;
        let batches = (0..cuts.len()).step_by(PASSAGES).map(|first| {
            let batch = cuts[first..].iter().take(PASSAGES);
            self.embed_texts(batch.map(|cut| cut.embedding_text(&document.text)).collect())
        });
        let embedded: Vec<Vec<Coded>> = stream::iter(batches).buffered(PASSAGES_IN_FLIGHT).try_collect().await?;
        let chunks: Vec<Chunk> = cuts
            .into_iter()
            .zip(embedded.into_iter().flatten())
            .enumerate()
            .map(|(ordinal, (cut, embedded))| chunk(ordinal, cut, embedded, &document.text))
            .collect();
        metrics::vectors_unsearchable(chunks.iter().filter(|chunk| chunk.vector.is_none()).count() as u64);
        Ok(PreparedDocument { document, content_hash, chunks, references })
    }

    /// Embeds texts and, where that is wanted, codes their tokens on the way.
    async fn embed_texts(&self, texts: Vec<String>) -> Result<Vec<Coded>> {
        let Some(coder) = self.token_coder.clone() else {
            let embedded = self.model.embed_passages(texts).await?;
            return Ok(embedded.into_iter().map(|embedded| (embedded, None)).collect());
        };
        let code = move |tokens: &TokenVectors| {
            // A model may give tokens other dimensions than texts: those have no codes.
            (tokens.dimension() == coder.dimension()).then(|| coder.encode(tokens.as_slice()))
        };
        let coded = self.model.embed_passages_with(texts, code).await?;
        Ok(coded.into_iter().map(|(embedded, codes)| (embedded, codes.flatten())).collect())
    }
}

/// A passage's vector, and its tokens' codes where they are kept.
type Coded = (Embedded, Option<Vec<u8>>);

fn chunk(ordinal: usize, cut: Cut, (embedded, token_codes): Coded, text: &str) -> Chunk {
    Chunk {
        ordinal: ordinal as u32,
        text: text[cut.range].to_owned(),
        overlap: cut.overlap as u32,
        heading_path: cut.heading_path,
        tokens: embedded.tokens,
        vector: embedded.vector,
        token_codes,
    }
}

fn tags(document: &Document) -> impl Iterator<Item = Reference> {
    let tags = document.metadata.get("tags").and_then(Value::as_array).into_iter().flatten();
    let named = tags.filter_map(Value::as_str).filter(|tag| tag.len() <= limits::ID_BYTES_MAX);
    named.map(|tag| Reference { kind: EdgeKind::TaggedAs, target: tag.to_owned() })
}
