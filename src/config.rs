//! Settings: the defaults, then one TOML file, then `AMALFA_*` variables, then flags; each later one wins.
//!
//! This file only gathers the `Config` of each part and remembers where every value came from. Unknown keys are refused.

mod layers;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::layers::{Origin, Setting};
use crate::error::Result;

/// All settings.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The gRPC server.
    pub grpc: crate::api::Config,
    /// The HTTP listener for metrics and probes.
    pub admin: crate::admin::Config,
    /// The database.
    pub store: crate::store::Config,
    /// The embedding model.
    pub model: crate::model::Config,
    /// The vector engine.
    pub engine: crate::engine::Config,
    /// What a search does when it does not say.
    pub search: crate::search::Config,
    /// Reranking.
    pub rerank: crate::search::RerankConfig,
    /// The cross-encoder, if there is one.
    pub cross_encoder: crate::model::CrossEncoderConfig,
    /// The language model, if there is one. Setting `llm.endpoint` sends texts to it.
    pub llm: crate::model::LlmConfig,
    /// Ingest.
    pub ingest: crate::ingest::Config,
    /// Logs, metrics and traces.
    pub telemetry: crate::telemetry::Config,
}

/// Where settings are looked for beside the defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The file that was named; it must exist. When `None`, `amalfa.toml` in the current folder if there is one.
    pub file: Option<PathBuf>,
    /// `AMALFA_*` variables with their values.
    pub environment: Vec<(String, String)>,
    /// `key = value` from flags, as `store.path` and `/data/amalfa.db`, with the flag's name.
    pub flags: Vec<(String, String, String)>,
}

impl Sources {
    /// Returns sources with the process's own environment.
    pub fn from_environment() -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(key, _)| key.starts_with("AMALFA_"))
            .collect();
        Self { file: None, environment, flags: Vec::new() }
    }
}

/// The settings and where each came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Every key in order, its value and its origin.
    pub settings: Vec<Setting>,
}

/// Reads all sources and checks them.
///
/// # Errors
///
/// `Setup` naming the key, its origin and what is accepted: an unknown key, a value of the wrong type, a file that is
/// missing or not TOML.
pub fn load(sources: &Sources) -> Result<Loaded> {
    layers::load(sources)
}
