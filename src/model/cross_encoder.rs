//! A cross-encoder: a model that reads a query and a passage together, on threads of its own.
//!
//! As with the embedding model, one session per thread and one pair per call: on CPUs a batch gains nothing and pays for
//! its padding.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, stream};
use serde::{Deserialize, Serialize};

use super::runtime::Runtime;
use super::scored::{Scored, schedule};
use super::workers::{CROSS_ENCODER, Operation, Priority, Workers};
use super::{SESSIONS_MAX, use_calling_thread};
use crate::domain::Deadline;
use crate::error::{Error, Result};
use pairs::Pairs;
use source::Source;

mod pairs;
mod source;

/// Pairs that may wait; their callers wait for room, each within its deadline.
const QUEUE_LEN: usize = 256;

/// Which cross-encoder, from where, and on how many threads. There is none unless `name` or `dir` is set.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// One of fastembed's rerankers, such as `jina-reranker-v1-turbo-en` or `bge-reranker-v2-m3`, in the hub cache.
    pub name: Option<String>,
    /// A folder with `model*.onnx`, `tokenizer.json` and, where there are some, `tokenizer_config.json`, `config.json`.
    pub dir: Option<PathBuf>,
    /// The hub cache folder where a named model is looked for.
    pub hub_cache: Option<PathBuf>,
    /// Whether a model that is not in the cache may be downloaded.
    pub download: bool,
    /// Sessions, each on a thread and with its own copy of the weights; 0 is one per core.
    pub sessions: usize,
    /// Tokens of query and passage together; at most 512 and what the model can read when not set.
    pub tokens_max: Option<usize>,
}

/// The cross-encoder; a cheap clone of a handle. Its threads end with the last one.
#[derive(Debug, Clone)]
pub struct CrossEncoder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    workers: Workers<Pairs>,
}

impl CrossEncoder {
    /// Loads the configured model once per session and warms every session up; `None` when none is configured. Blocking.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when ONNX Runtime or the model is missing or unusable, saying what to run or to set;
    /// [`Error::Invalid`] for a setting that makes no sense.
    pub fn load(config: &Config, onnxruntime: Option<&Path>) -> Result<Option<Self>> {
        let Some(source) = Source::find(config)? else { return Ok(None) };
        let sessions = sessions(config)?;
        let runtime = Runtime::load(onnxruntime)?;
        use_calling_thread();
        let load = |_| Ok(Box::new(Pairs::load(&source, &runtime)?));
        let sessions = (0..sessions).map(load).collect::<Result<Vec<_>>>()?;
        let workers = Workers::start(&CROSS_ENCODER, sessions, QUEUE_LEN)?;
        tracing::info!(model = source.name, sessions = workers.len(), "cross-encoder loaded");
        Ok(Some(Self(Arc::new(Inner { name: source.name, workers }))))
    }

    /// Returns the model's name.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Whether every thread is alive and none has panicked.
    pub fn healthy(&self) -> bool {
        self.0.workers.healthy()
    }

    /// Scores passages, which come best first, against a query by the model's logit, `batch` after `batch`.
    pub async fn score(&self, query: &str, passages: Vec<String>, batch: NonZeroUsize, deadline: Deadline) -> Scored {
        let query: Arc<str> = query.into();
        let (count, order) = (passages.len(), schedule(&passages, batch));
        let passages: Arc<[String]> = passages.into();
        let score_one = |place: usize| {
            let (query, passages) = (Arc::clone(&query), Arc::clone(&passages));
            let work = move |session: &mut Pairs| {
                let (logit, tokens) = session.logit(&query, &passages[place])?;
                Ok(((place, logit), tokens))
            };
            self.0.workers.run_when_room(Priority::Query, Operation::CrossEncoder, deadline, work)
        };
        let in_flight = 2 * self.0.workers.len();
        Scored::collect(count, stream::iter(order).map(score_one).buffer_unordered(in_flight)).await
    }
}

fn sessions(config: &Config) -> Result<usize> {
    match config.sessions {
        0 => Ok(std::thread::available_parallelism().map_or(1, usize::from).min(SESSIONS_MAX)),
        n if n <= SESSIONS_MAX => Ok(n),
        n => Err(Error::invalid("cross_encoder.sessions", format!("is {n}, over the limit of {SESSIONS_MAX}"))),
    }
}

#[cfg(test)]
mod tests;
