//! Which files make up the configured cross-encoder.

use std::path::PathBuf;

use super::Config;
use crate::error::{Error, Result};
use crate::model::hub::{self, Wanted};
use crate::model::source::{TOKENS_DEFAULT, TOKENS_MIN, json, onnx_in};

/// A cross-encoder's files and window.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) name: String,
    /// Holds the tokenizer's and the configuration files.
    pub(super) folder: PathBuf,
    pub(super) onnx: PathBuf,
    /// Tokens of a pair, special ones included.
    pub(super) tokens_max: usize,
}

impl Source {
    /// Finds the configured model's files; `None` when none is configured.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] saying where it was looked for and what to do.
    pub(super) fn find(config: &Config) -> Result<Option<Self>> {
        let (name, folder, onnx) = match (&config.dir, &config.name) {
            (None, None) => return Ok(None),
            (Some(dir), name) => in_folder(dir, name.as_deref())?,
            (None, Some(name)) => in_cache(config, name)?,
        };
        Ok(Some(Self { tokens_max: window(config, &folder)?, name, folder, onnx }))
    }
}

fn in_folder(dir: &std::path::Path, name: Option<&str>) -> Result<(String, PathBuf, PathBuf)> {
    if !dir.is_dir() {
        let message = format!("cross_encoder.dir is not a folder: {}", dir.display());
        return Err(Error::setup(message, "set it to a folder with model.onnx and tokenizer.json"));
    }
    let own_name = dir.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let name = name.map(str::to_owned).or(own_name).unwrap_or_default();
    Ok((name, dir.to_path_buf(), onnx_in(dir)?))
}

fn in_cache(config: &Config, name: &str) -> Result<(String, PathBuf, PathBuf)> {
    let known = hub::known_reranker(name).ok_or_else(|| {
        Error::setup(
            format!("there is no cross-encoder named {name:?} among fastembed's"),
            "set cross_encoder.name to jina-reranker-v1-turbo-en or bge-reranker-v2-m3, or cross_encoder.dir to a \
             folder with an ONNX model",
        )
    })?;
    let hub_cache = config.hub_cache.as_deref();
    let wanted = Wanted { section: "cross_encoder", name, hub_cache, download: config.download };
    let folder = hub::folder(&wanted, &known)?;
    let onnx = folder.join(&known.file);
    Ok((name.to_owned(), folder, onnx))
}

/// Returns the window: configured or the default, never beyond what the model can read.
fn window(config: &Config, folder: &std::path::Path) -> Result<usize> {
    // Some files hold 10³⁰ for «no limit». The tokenizer's number goes first: of RoBERTa's positions two are not usable.
    let number = |file: &str, key: &str| json(folder, file)[key].as_f64().filter(|n| *n >= 1.0 && *n < 1e9);
    let readable = number("tokenizer_config.json", "model_max_length")
        .or_else(|| number("config.json", "max_position_embeddings"))
        .map_or(usize::MAX, |tokens| tokens as usize);
    match config.tokens_max {
        None => Ok(readable.min(TOKENS_DEFAULT)),
        Some(tokens) if tokens < TOKENS_MIN => {
            Err(Error::invalid("cross_encoder.tokens_max", format!("is under {TOKENS_MIN}")))
        }
        Some(tokens) if tokens > readable => {
            let message = format!("is over {readable}, all that the model can read");
            Err(Error::invalid("cross_encoder.tokens_max", message))
        }
        Some(tokens) => Ok(tokens),
    }
}
