//! One session of ONNX Runtime that scores pairs, with its tokenizer.
//!
//! fastembed's own reranker makes the same pairs, but panics on a model whose output has another shape, and takes the
//! first of several classes for the score without a word.

use std::path::Path;

use ort::session::Session;
use ort::session::builder::GraphOptimizationLevel;
use ort::value::Tensor;
use tokenizers::{Encoding, Tokenizer, TruncationParams, TruncationStrategy};

use super::source::Source;
use crate::error::{Error, Result};
use crate::model::runtime::Runtime;

/// Bytes of a text that are looked at per token of the window: more than any language's tokens have in the mean. Tokens
/// of a book are not counted to read a page of it.
const BYTES_PER_TOKEN: usize = 32;

/// Scores pairs.
#[derive(Debug)]
pub(super) struct Pairs {
    session: Session,
    encoder: Encoder,
    has_types: bool,
}

impl Pairs {
    /// Loads the model into a session of one thread and scores a pair with it.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when a file is missing or is not what it should be.
    pub(super) fn load(source: &Source, runtime: &Runtime) -> Result<Self> {
        let unusable = |reason: String| unusable(&source.onnx, &reason);
        let session = session(&source.onnx, runtime).map_err(|error| unusable(error.to_string()))?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        if let Some(other) = inputs.iter().find(|name| !INPUTS.contains(name)) {
            return Err(unusable(format!("it asks for an input {other:?}; known are {}", INPUTS.join(", "))));
        }
        let has_types = inputs.contains(&INPUTS[2]);
        let encoder = Encoder::load(&source.folder.join("tokenizer.json"), source.tokens_max)?;
        let mut pairs = Self { session, encoder, has_types };
        pairs.logit("warm up", "the session").map_err(|error| unusable(error.chain()))?;
        Ok(pairs)
    }

    /// Returns how well a passage answers a query, any finite number, and the tokens read.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when the computation fails.
    pub(super) fn logit(&mut self, query: &str, passage: &str) -> Result<(f32, u32)> {
        let encoding = self.encoder.encode(query, passage)?;
        let row = |values: &[u32]| {
            let values: Vec<i64> = values.iter().copied().map(i64::from).collect();
            Tensor::from_array(([1, values.len()], values))
        };
        let mut inputs = ort::inputs![
            INPUTS[0] => row(encoding.get_ids()).map_err(failed)?,
            INPUTS[1] => row(encoding.get_attention_mask()).map_err(failed)?,
        ];
        if self.has_types {
            inputs.push((INPUTS[2].into(), row(encoding.get_type_ids()).map_err(failed)?.into()));
        }
        let outputs = self.session.run(inputs).map_err(failed)?;
        let logits = outputs.get("logits").unwrap_or(&outputs[0]);
        let (shape, values) = logits.try_extract_tensor::<f32>().map_err(failed)?;
        match values {
            [logit] if logit.is_finite() => Ok((*logit, encoding.len() as u32)),
            [_] => Err(Error::bug("the cross-encoder returned a number that is not finite")),
            _ => Err(Error::bug(format!("it returns an output of shape {shape:?} for a pair, not one number"))),
        }
    }
}

/// What an encoder of BERT's kind may ask for.
const INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// Makes a model's tokens of a pair.
#[derive(Debug)]
pub(super) struct Encoder {
    tokenizer: Tokenizer,
    bytes_max: usize,
}

impl Encoder {
    /// Reads a `tokenizer.json`; the frame around a pair (separators, types) is the one that it describes.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when the file is missing or damaged.
    pub(super) fn load(path: &Path, tokens_max: usize) -> Result<Self> {
        let unusable = |error: tokenizers::Error| unusable(path, &error.to_string());
        let mut tokenizer = Tokenizer::from_file(path).map_err(unusable)?;
        // The longer side is cut first: a passage, unless the query alone would fill the window.
        let strategy = TruncationStrategy::LongestFirst;
        let truncation = TruncationParams { max_length: tokens_max, strategy, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(unusable)?;
        tokenizer.with_padding(None);
        // «[SEP]» in a text is text.
        tokenizer.set_encode_special_tokens(true);
        Ok(Self { tokenizer, bytes_max: tokens_max.saturating_mul(BYTES_PER_TOKEN) })
    }

    /// Returns the tokens of a pair, special ones included, as many as the window has room for.
    ///
    /// # Errors
    ///
    /// [`Error::Internal`] when the tokenizer fails.
    pub(super) fn encode(&self, query: &str, passage: &str) -> Result<Encoding> {
        let head = |text: &str| text[..text.floor_char_boundary(self.bytes_max)].to_owned();
        let pair = self.tokenizer.encode((head(query), head(passage)), true);
        pair.map_err(|error| Error::internal("the pair cannot be tokenised", error))
    }
}

fn session(onnx: &Path, runtime: &Runtime) -> ort::Result<Session> {
    Session::builder(&runtime.environment)?
        .with_optimization_level(GraphOptimizationLevel::Level3)?
        // One thread computes on the caller's own; the sessions are the parallelism.
        .with_intra_threads(1)?
        .commit_from_file(onnx)
}

fn failed(error: ort::Error) -> Error {
    Error::internal("the cross-encoder's call failed", error)
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::setup(
        format!("the cross-encoder cannot be loaded from {}: {reason}", path.display()),
        "check that the folder holds a whole cross-encoder with one output per pair, or choose another by \
         cross_encoder.name",
    )
}
