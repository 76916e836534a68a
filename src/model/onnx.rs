//! The backend that computes with ONNX Runtime, through fastembed.

use std::fmt;
use std::path::Path;

use fastembed::{
    InitOptionsUserDefined, OutputKey, SingleBatchOutput, TextEmbedding, TokenizerFiles, UserDefinedEmbeddingModel,
};
use tokenizers::Tokenizer;

use super::backend::{Backend, Matrix, Vectors};
use super::runtime::Runtime;
use super::source::Source;
use crate::domain::Pooling;
use crate::error::{Error, Result};

/// Outputs that hold a vector per text or per token, in the order in which fastembed tries them.
const VECTOR_OUTPUTS: &[OutputKey] = &[
    OutputKey::OnlyOne,
    OutputKey::ByName("text_embeds"),
    OutputKey::ByName("last_hidden_state"),
    OutputKey::ByName("sentence_embedding"),
];
/// Outputs that hold a vector per token.
const TOKEN_OUTPUTS: &[OutputKey] =
    &[OutputKey::ByName("last_hidden_state"), OutputKey::ByName("token_embeddings"), OutputKey::OnlyOne];

/// One session of ONNX Runtime with its tokenizer.
pub(super) struct Onnx {
    embedding: TextEmbedding,
    outputs: Vec<OutputKey>,
    pooling: Pooling,
}

impl fmt::Debug for Onnx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Onnx").field("outputs", &self.outputs).field("pooling", &self.pooling).finish_non_exhaustive()
    }
}

impl Onnx {
    /// Loads the model into a session of one thread.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] when a file is missing or is not what it should be.
    pub(super) fn load(source: &Source, runtime: &Runtime) -> Result<Self> {
        // One thread computes on the caller's own: there is no pool that could spin. The sessions are the parallelism;
        // measured, 4 sessions × 1 thread answer 2 to 3 times as many queries as 1 × 4.
        let options = InitOptionsUserDefined::new()
            .with_environment(runtime.environment.clone())
            .with_intra_threads(1)
            .with_max_length(source.tokens_max);
        let embedding = TextEmbedding::try_new_from_user_defined(files(source)?, options)
            .map_err(|error| unusable(&source.onnx, &error.to_string()))?;
        let outputs = source.output.map_or_else(|| VECTOR_OUTPUTS.to_vec(), |name| vec![OutputKey::ByName(name)]);
        Ok(Self { embedding, outputs, pooling: source.pooling })
    }

    /// Returns the tokenizer as fastembed has set it up, special tokens added.
    pub(super) fn tokenizer(&self) -> Tokenizer {
        self.embedding.tokenizer.clone()
    }

    /// Embeds with fastembed's own pooling and normalisation, or the nearest to it that it has.
    pub(super) fn embed(&mut self, text: &str) -> Result<Vec<f32>> {
        let vector = self.embedding.embed([text], Some(1)).map_err(failed)?.pop();
        vector.ok_or_else(|| Error::bug("the model returned nothing"))
    }

    fn run(&mut self, text: &str) -> Result<SingleBatchOutput> {
        let output = self.embedding.transform([text], Some(1)).map_err(failed)?;
        output.into_raw().pop().ok_or_else(|| Error::bug("the model returned nothing"))
    }

    fn text_vector(&self, batch: &SingleBatchOutput) -> Result<Vec<f32>> {
        let output = batch.select_output(&self.outputs.as_slice()).map_err(failed)?;
        match (output.shape(), output.as_slice()) {
            // The graph pools by itself.
            ([1, _], Some(values)) => Ok(values.to_vec()),
            (&[1, tokens, dimension], Some(values)) if tokens > 0 => Ok(pool(values, dimension, self.pooling)),
            (shape, _) => Err(shape_error(shape)),
        }
    }
}

impl Backend for Onnx {
    fn vector(&mut self, text: &str) -> Result<Vec<f32>> {
        let batch = self.run(text)?;
        self.text_vector(&batch)
    }

    fn vectors(&mut self, text: &str) -> Result<Vectors> {
        let batch = self.run(text)?;
        Ok(Vectors { text: self.text_vector(&batch)?, tokens: token_vectors(&batch) })
    }
}

/// Returns the rows of the output that has one per token, if there is any.
fn token_vectors(batch: &SingleBatchOutput) -> Option<Matrix> {
    let output = batch.select_output(&TOKEN_OUTPUTS).ok()?;
    match (output.shape(), output.as_slice()) {
        (&[1, _, dimension], Some(values)) => Some(Matrix { values: values.to_vec(), dimension }),
        _ => None,
    }
}

/// Makes one vector of the token vectors of one text, where no token is padding.
fn pool(values: &[f32], dimension: usize, pooling: Pooling) -> Vec<f32> {
    let mut rows = values.chunks_exact(dimension);
    match pooling {
        Pooling::Cls => rows.next().unwrap_or_default().to_vec(),
        Pooling::LastToken => rows.next_back().unwrap_or_default().to_vec(),
        Pooling::Mean => {
            let scale = (rows.len() as f32).recip();
            let mut mean = vec![0.0; dimension];
            rows.for_each(|row| mean.iter_mut().zip(row).for_each(|(mean, value)| *mean += value * scale));
            mean
        }
    }
}

fn files(source: &Source) -> Result<UserDefinedEmbeddingModel> {
    let required = |name: &str| read(&source.folder.join(name));
    let tokenizer_files = TokenizerFiles {
        tokenizer_file: required("tokenizer.json")?,
        config_file: required("config.json")?,
        tokenizer_config_file: required("tokenizer_config.json")?,
        // Newer models carry their special tokens in tokenizer.json alone.
        special_tokens_map_file: required("special_tokens_map.json").unwrap_or_else(|_| b"{}".to_vec()),
    };
    // Only `embed` asks fastembed to pool; it knows no last token.
    let pooling = if source.pooling == Pooling::Mean { fastembed::Pooling::Mean } else { fastembed::Pooling::Cls };
    let model = UserDefinedEmbeddingModel::new(read(&source.onnx)?, tokenizer_files).with_pooling(pooling);
    Ok(match source.external_weights() {
        Some(path) => {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            model.with_external_initializer(name, read(&path)?)
        }
        None => model,
    })
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| unusable(path, &error.to_string()))
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::setup(
        format!("the model cannot be loaded from {}: {reason}", path.display()),
        "check that the folder holds the whole model (with Git LFS: `git lfs pull`), or choose another by model.name",
    )
}

fn failed(error: fastembed::Error) -> Error {
    Error::internal("the model call failed", error)
}

fn shape_error(shape: &[usize]) -> Error {
    Error::bug(format!("the model returned an output of shape {shape:?}, not one vector per text or per token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pooling_makes_one_vector_of_the_tokens() {
        let tokens = [1.0, 2.0, 3.0, 4.0, 5.0, 9.0];
        assert_eq!(pool(&tokens, 2, Pooling::Cls), [1.0, 2.0]);
        assert_eq!(pool(&tokens, 2, Pooling::LastToken), [5.0, 9.0]);
        let mean = pool(&tokens, 2, Pooling::Mean);
        assert!((mean[0] - 3.0).abs() < 1e-6 && (mean[1] - 5.0).abs() < 1e-6, "{mean:?}");
    }
}
