//! The embedding model, on threads of its own: texts in, unit vectors out.
//!
//! One ONNX Runtime session per thread, one intra-op thread each, one text per call: on CPUs batching gains nothing, and a
//! dynamically quantised model gives a text another vector in other company. Queries overtake bulk work.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::{Deadline, ModelIdentity, Pooling};
use crate::error::{Error, Result};
use arithmetic::Arithmetic;
use backend::{Backend, Session};
pub use bare::Bare;
use cache::QueryCache;
pub use cross_encoder::{Config as CrossEncoderConfig, CrossEncoder};
pub use embed::{Embedded, EmbeddedQuery};
use embed::{Reader, count, embed, embed_with_tokens};
pub use late_interaction::TokenVectors;
pub use llm::{Config as LlmConfig, Llm, Protocol as LlmProtocol};
use onnx::Onnx;
use runtime::Runtime;
pub use scored::Scored;
use scored::schedule;
pub use self_test::SelfTest;
use source::Source;
use tokens::{Reading, Tokens};
use workers::{EMBEDDING, Operation, Priority, Workers};

mod arithmetic;
mod backend;
mod bare;
mod cache;
mod cross_encoder;
mod embed;
mod hub;
mod late_interaction;
mod llm;
mod onnx;
mod places;
mod runtime;
mod scored;
mod self_test;
mod source;
mod tokens;
mod workers;

/// Sessions that may be configured: each takes its own copy of the weights.
const SESSIONS_MAX: usize = 64;

/// Which model, from where, and on how many threads.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `all-minilm-l6-v2` (bundled), or a fastembed model name such as `bge-small-en-v1.5`.
    pub name: String,
    /// A folder with `model*.onnx`, `tokenizer.json`, `config.json`, …; the bundled one or the hub cache when empty.
    pub dir: Option<PathBuf>,
    /// The hub cache folder where a named model is looked for.
    pub hub_cache: Option<PathBuf>,
    /// Whether a model that is not in the cache may be downloaded.
    pub download: bool,
    /// ONNX Runtime's shared library; found by `ORT_DYLIB_PATH`, beside the binary, or in `.onnxruntime` when empty.
    pub onnxruntime: Option<PathBuf>,
    /// Sessions, each on a thread; 0 is one per core.
    pub sessions: usize,
    /// Texts that may wait for a session before callers are refused.
    pub queue_len: usize,
    /// Overrides the model's own pooling.
    pub pooling: Option<Pooling>,
    /// Overrides the model's own query prefix.
    pub query_prefix: Option<String>,
    /// Overrides the model's own passage prefix.
    pub passage_prefix: Option<String>,
    /// Overrides the model's own window.
    pub tokens_max: Option<usize>,
    /// Bytes of the latest queries' vectors that are kept for when they are asked again; some 20 kB each. 0 keeps none, and
    /// a late interaction then reads its query twice.
    pub query_cache_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "all-minilm-l6-v2".to_owned(),
            dir: None,
            hub_cache: None,
            download: false,
            onnxruntime: None,
            sessions: 0,
            // At 2 to 60 ms a text and session, a longer queue would outlive the callers' patience.
            queue_len: 256,
            pooling: None,
            query_prefix: None,
            passage_prefix: None,
            tokens_max: None,
            // The last 700 questions of a dozen words with the vectors of their tokens.
            query_cache_bytes: 16 << 20,
        }
    }
}

/// The model; a cheap clone of a handle. Its threads end with the last one.
#[derive(Debug, Clone)]
pub struct Model(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    identity: ModelIdentity,
    self_test: SelfTest,
    reader: Arc<Reader>,
    queries: QueryCache,
    workers: Workers,
}

impl Model {
    /// Finds the library and the model, loads it once per session, warms every session up. Blocking.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when ONNX Runtime or the model is missing or unusable, saying what to run or to set;
    /// [`Error::Invalid`] for a setting that makes no sense.
    pub fn load(config: &Config) -> Result<Self> {
        let sessions = sessions(config)?;
        let source = Source::find(config)?;
        let runtime = Runtime::load(config.onnxruntime.as_deref())?;
        use_calling_thread();
        // One after the other: each holds the file in memory only while it loads.
        let mut backends = (0..sessions).map(|_| Onnx::load(&source, &runtime)).collect::<Result<Vec<_>>>()?;
        let tokens = Tokens::subwords(backends[0].tokenizer())?;
        let mut dimension = 0;
        for backend in &mut backends {
            dimension = backend.vector("warm up")?.len();
        }
        let self_test = match source.reference() {
            Some(reference) => self_test::run(&reference, &mut backends[0])?,
            None => SelfTest::default(),
        };
        let identity = identity(source, dimension, runtime.version)?;
        let backends = backends.into_iter().map(|backend| Box::new(backend) as Box<dyn Backend>).collect();
        Self::assemble(identity, self_test, tokens, backends, config)
    }

    /// Returns a test double that computes vectors from words, without ONNX Runtime and in microseconds: texts with common
    /// words are near. Two sessions, a window of 256 words.
    #[doc(hidden)]
    pub fn arithmetic(dimension: usize) -> Self {
        let backends = (0..2).map(|_| Box::new(Arithmetic { dimension }) as Box<dyn Backend>).collect();
        let (identity, config) = (Arithmetic::identity(dimension), Config { queue_len: 1_024, ..Config::default() });
        let model = Self::assemble(identity, SelfTest::default(), Tokens::Words, backends, &config);
        model.unwrap_or_else(|error| panic!("the test double cannot start its threads: {error}"))
    }

    fn assemble(
        identity: ModelIdentity,
        self_test: SelfTest,
        tokens: Tokens,
        backends: Vec<Box<dyn Backend>>,
        config: &Config,
    ) -> Result<Self> {
        let reader = Arc::new(Reader {
            room: identity.tokens_max.saturating_sub(tokens.special()?),
            tokens,
            query_prefix: identity.query_prefix.clone(),
            passage_prefix: identity.passage_prefix.clone(),
        });
        let workers = Workers::start(&EMBEDDING, backends, config.queue_len)?;
        let queries = QueryCache::new(config.query_cache_bytes);
        Ok(Self(Arc::new(Inner { identity, self_test, reader, queries, workers })))
    }

    /// Returns what decides the vectors.
    pub fn identity(&self) -> &ModelIdentity {
        &self.0.identity
    }

    /// Returns how the self-test at load went.
    pub fn self_test(&self) -> &SelfTest {
        &self.0.self_test
    }

    /// Returns the number of sessions.
    pub fn sessions(&self) -> usize {
        self.0.workers.len()
    }

    /// Returns the byte ranges of a text's tokens, special ones left out, beyond any window. On the caller's thread, linear
    /// in the text's length.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when the tokenizer fails.
    pub fn token_offsets(&self, text: &str) -> Result<Vec<(usize, usize)>> {
        self.0.reader.tokens.offsets(text)
    }

    /// Tokens that a passage may have (the window less the special tokens and the passage prefix).
    pub fn passage_tokens_max(&self) -> usize {
        let reader = &self.0.reader;
        let prefix = reader.tokens.offsets(&reader.passage_prefix).map_or(0, |offsets| offsets.len());
        reader.room.saturating_sub(prefix)
    }

    /// Embeds a query, with its prefix, ahead of bulk work; the latest ones are remembered.
    ///
    /// # Errors
    ///
    /// [`Error::Overloaded`] when the queue is full, [`Error::Deadline`] when time ran out.
    pub async fn embed_query(&self, text: String, deadline: Deadline) -> Result<Arc<EmbeddedQuery>> {
        let key = format!("{}{text}", self.0.reader.query_prefix);
        let compute = async {
            let reader = Arc::clone(&self.0.reader);
            let work = move |session: &mut Session| embed_with_tokens(reader.query(&text)?, session);
            self.0.workers.run_or_refuse(Operation::Query, deadline, work).await
        };
        self.0.queries.get(&key, deadline, compute).await
    }

    /// Embeds passages, with their prefix; results in order. Waits for room in the queue instead of refusing.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when a model call fails; the other passages are then given up.
    pub async fn embed_passages(&self, texts: Vec<String>) -> Result<Vec<Embedded>> {
        self.read_passages(texts, embed).await
    }

    /// As [`Self::embed_passages`], and gives each passage's token vectors, of the same computation, to `each`: on the
    /// model's thread, so that no more of them are in memory than there are sessions. `None` where the model gives none.
    ///
    /// # Errors
    ///
    /// As [`Self::embed_passages`].
    pub async fn embed_passages_with<T: Send + 'static>(
        &self,
        texts: Vec<String>,
        each: impl Fn(&TokenVectors) -> T + Clone + Send + 'static,
    ) -> Result<Vec<(Embedded, Option<T>)>> {
        let read = move |reading: Reading, session: &mut Session| {
            let (EmbeddedQuery { embedded, tokens }, count) = embed_with_tokens(reading, session)?;
            Ok(((embedded, tokens.as_ref().map(&each)), count))
        };
        self.read_passages(texts, read).await
    }

    async fn read_passages<T: Send + 'static>(
        &self,
        texts: Vec<String>,
        read: impl Fn(Reading, &mut Session) -> workers::Done<T> + Clone + Send + 'static,
    ) -> Result<Vec<T>> {
        let read_one = |text: String| {
            let (reader, read) = (Arc::clone(&self.0.reader), read.clone());
            let work = move |session: &mut Session| read(reader.passage(&text)?, session);
            self.0.workers.run_when_room(Priority::Bulk, Operation::Passage, Deadline::NONE, work)
        };
        self.in_flight(texts.into_iter().map(read_one)).await
    }

    /// Scores passages against a query by mean MaxSim over unit token vectors, in [-1, 1]; results in order.
    ///
    /// Special tokens count like others: leaving them out, on either side, moved nDCG@10 on 70 queries of SciFact by less
    /// than 0.002, and with them an empty passage has a score as well.
    ///
    /// The passages come best first and are scored `batch` after `batch`; what the deadline cuts off has no score.
    pub async fn late_interaction(
        &self,
        query: String,
        passages: Vec<String>,
        batch: NonZeroUsize,
        deadline: Deadline,
    ) -> Scored {
        if passages.is_empty() {
            return Scored { scores: Vec::new(), degraded: None };
        }
        let query = match self.embed_query(query, deadline).await.and_then(|query| query.tokens().cloned()) {
            Ok(query) => Arc::new(query),
            Err(error) => return Scored::stopped(passages.len(), &error),
        };
        self.score_passages(passages, batch, deadline, move |passage| query.mean_max_sim(passage)).await
    }

    /// Scores passages by their token vectors, as [`Self::late_interaction`] does, on the model's threads.
    pub async fn score_passages(
        &self,
        passages: Vec<String>,
        batch: NonZeroUsize,
        deadline: Deadline,
        score: impl Fn(&TokenVectors) -> f32 + Clone + Send + 'static,
    ) -> Scored {
        let (texts, order) = (passages.len(), schedule(&passages, batch));
        let passages: Arc<[String]> = passages.into();
        let score_one = |place: usize| {
            let (reader, score, passages) = (Arc::clone(&self.0.reader), score.clone(), Arc::clone(&passages));
            let work = move |session: &mut Session| {
                let reading = reader.passage(&passages[place])?;
                let tokens = late_interaction::required(session.vectors(&reading.text)?.tokens)?;
                Ok(((place, score(&TokenVectors::normalise(tokens))), count(reading.tokens)))
            };
            self.0.workers.run_when_room(Priority::Query, Operation::LateInteraction, deadline, work)
        };
        let in_flight = 2 * self.sessions();
        Scored::collect(texts, stream::iter(order).map(score_one).buffer_unordered(in_flight)).await
    }

    /// Whether every worker thread is alive and none has panicked.
    pub fn healthy(&self) -> bool {
        self.0.workers.healthy()
    }

    /// Runs one request's jobs with as many in the queue as keep every session busy, and no more: other requests get their
    /// turn between them.
    async fn in_flight<T>(&self, jobs: impl Iterator<Item = impl Future<Output = Result<T>>>) -> Result<Vec<T>> {
        stream::iter(jobs).buffered(2 * self.sessions()).try_collect().await
    }
}

/// Keeps the tokenizer on the thread that calls it; by default it hops onto the global thread pool for every single text,
/// where it would wait behind scans.
fn use_calling_thread() {
    tokenizers::utils::parallelism::set_parallelism(false);
}

fn sessions(config: &Config) -> Result<usize> {
    if config.queue_len == 0 || config.queue_len > tokio::sync::Semaphore::MAX_PERMITS {
        return Err(Error::invalid("model.queue_len", "is 0 or beyond reason; 256 is the default"));
    }
    match config.sessions {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(SESSIONS_MAX)),
        n if n <= SESSIONS_MAX => Ok(n),
        n => Err(Error::invalid("model.sessions", format!("is {n}, over the limit of {SESSIONS_MAX}"))),
    }
}

fn identity(source: Source, dimension: usize, onnxruntime: String) -> Result<ModelIdentity> {
    Ok(ModelIdentity {
        file_sha256: sha256(&source)?,
        name: source.name,
        dimension,
        pooling: source.pooling,
        query_prefix: source.query_prefix,
        passage_prefix: source.passage_prefix,
        tokens_max: source.tokens_max,
        onnxruntime,
    })
}

/// Hashes the ONNX file and, where they are apart, its weights.
fn sha256(source: &Source) -> Result<String> {
    let mut digest = Sha256::new();
    for path in [Some(source.onnx.clone()), source.external_weights()].into_iter().flatten() {
        let bytes = std::fs::read(&path);
        digest.update(bytes.map_err(|error| Error::unavailable(format!("{} cannot be read", path.display()), error))?);
    }
    Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests;
