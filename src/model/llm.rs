//! A language model that puts passages in order, behind an HTTP endpoint: any that speaks OpenAI's protocol, or Ollama.
//!
//! Listwise: one prompt with all passages, one answer with their grades. The endpoint is another's machine: it may be
//! slow, down, or wrong, and the passages are another's words: they may try to give it orders. So every request has a
//! deadline, failures are retried and then left alone for a while, every answer is checked, and passages stand between
//! marks that nobody can guess.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::domain::{Deadline, DegradationReason};
use crate::error::{Error, Result};
use circuit::Circuit;
use client::{Client, Failure};
use prompt::{Limits, Prompt};

use super::scored::Scored;

mod answer;
mod circuit;
mod client;
mod endpoint;
mod prompt;

/// A timeout tells of the endpoint, and not only of a caller in a hurry, from this share of `timeout_ms` on.
const FAIR_SHARE: u32 = 4;

/// Which language model reranks, if any, and how patiently it is asked.
///
/// **Setting `endpoint` sends the text of queries and passages to it.** Nothing is sent without.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it is: `http://127.0.0.1:11434`, `https://api.example.com/v1`. There is none unless set.
    pub endpoint: Option<String>,
    /// `openai` (POST …/v1/chat/completions) or `ollama` (POST …/api/chat).
    pub protocol: Protocol,
    /// The model's name there.
    pub model: String,
    /// The environment variable that holds the key; the key itself is in no setting and no log.
    pub api_key_env: Option<String>,
    /// Passages that one request holds.
    pub candidates_max: usize,
    /// Characters of one passage that are sent.
    pub passage_chars_max: usize,
    /// Characters of a whole prompt; passages are cut further, and then left out, to keep it.
    pub prompt_chars_max: usize,
    /// Milliseconds for an answer, retries included; a request's own deadline holds as well.
    pub timeout_ms: u64,
    /// Times that a request is sent again after 429, 5xx or a broken connection.
    pub retries: u32,
    /// Requests that fail one after the other before the endpoint is left alone.
    pub circuit_failures: u32,
    /// Milliseconds that it is left alone for before one request tries again.
    pub circuit_open_ms: u64,
    /// Sent as it is; under 0 it is left out, for models that refuse the parameter.
    pub temperature: f32,
}

/// What an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// OpenAI's chat completions, which most servers offer.
    #[default]
    Openai,
    /// Ollama's own.
    Ollama,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: None,
            protocol: Protocol::Openai,
            model: String::new(),
            api_key_env: None,
            candidates_max: 20,
            passage_chars_max: 1_200,
            // Some 7,000 tokens of English: less than the window of any model that ranks well.
            prompt_chars_max: 28_000,
            timeout_ms: 10_000,
            retries: 2,
            circuit_failures: 5,
            circuit_open_ms: 30_000,
            temperature: 0.0,
        }
    }
}

/// The language model; a cheap clone of a handle.
#[derive(Debug, Clone)]
pub struct Llm(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    circuit: Circuit,
    limits: Limits,
    timeout: Duration,
}

impl Llm {
    /// Makes ready to ask the configured endpoint, without asking it; `None` when none is configured. Says once in the
    /// log when texts will leave this machine.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for a setting that makes no sense, [`Error::Setup`] when the key or the system's certificates
    /// are missing.
    pub fn new(config: &Config) -> Result<Option<Self>> {
        let Some(client) = Client::new(config)? else { return Ok(None) };
        let limits = Limits::new(config)?;
        if config.timeout_ms == 0 || config.circuit_failures == 0 {
            return Err(Error::invalid("llm", "timeout_ms and circuit_failures must be over 0"));
        }
        client.warn_of_leaving_texts();
        let circuit = Circuit::new(config.circuit_failures, Duration::from_millis(config.circuit_open_ms));
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Some(Self(Arc::new(Inner { client, circuit, limits, timeout }))))
    }

    /// Passages that one request holds.
    pub fn candidates_max(&self) -> usize {
        self.0.limits.candidates_max
    }

    /// Grades the `wanted` best of passages, which come best first, in [0, 1]; those that it does not name have no grade.
    pub async fn rank(&self, query: &str, passages: &[String], wanted: usize, deadline: Deadline) -> Scored {
        let (count, wanted) = (passages.len(), wanted.min(passages.len()));
        if wanted == 0 {
            return Scored { scores: vec![None; count], degraded: None };
        }
        let pass = match self.0.circuit.enter(Instant::now()) {
            Ok(pass) => pass,
            Err(left) => {
                let message =
                    format!("the language model failed too often; it is asked again in {} ms", left.as_millis());
                return Scored::nothing(count, DegradationReason::CircuitOpen, message);
            }
        };
        let prompt = Prompt::new(query, passages, wanted, &self.0.limits);
        let started = Instant::now();
        let answer = match self.0.client.ask(&prompt, deadline.at_most(self.0.timeout)).await {
            Ok(content) => prompt.read(&content, count),
            Err(failure) => failure.into_scored(count),
        };
        let reason = answer.degraded.as_ref().map(|degraded| degraded.reason);
        match reason {
            Some(DegradationReason::Deadline) if started.elapsed() * FAIR_SHARE < self.0.timeout => pass.no_verdict(),
            Some(_) if answer.scores.iter().all(Option::is_none) => pass.failed(Instant::now()),
            _ => pass.succeeded(),
        }
        answer
    }
}

impl Failure {
    fn into_scored(self, texts: usize) -> Scored {
        Scored::nothing(texts, self.reason, self.message)
    }
}

#[cfg(test)]
mod tests;
