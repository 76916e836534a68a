//! Which files make up the configured model, and how it wants to be used.
//!
//! A folder says most of it itself, in the files that sentence-transformers writes; the configuration overrides them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::hub::{self, Known, Wanted};
use super::{Config, places};
use crate::domain::Pooling;
use crate::error::{Error, Result};

/// Tokens read by a model whose files do not say.
pub(super) const TOKENS_DEFAULT: usize = 512;
/// The least window that leaves room for a prefix, special tokens and some text.
pub(super) const TOKENS_MIN: usize = 16;
/// Where a folder may keep its ONNX file, best first.
const ONNX_NAMES: [&str; 4] = ["model_int8.onnx", "model.onnx", "onnx/model.onnx", "model_optimized.onnx"];

/// A model's files and manners.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Source {
    pub(super) name: String,
    /// Holds the tokenizer's and the configuration files.
    pub(super) folder: PathBuf,
    pub(super) onnx: PathBuf,
    pub(super) pooling: Pooling,
    pub(super) query_prefix: String,
    pub(super) passage_prefix: String,
    /// Tokens of the window, special ones included.
    pub(super) tokens_max: usize,
    /// The output that holds the vector, where the model has several.
    pub(super) output: Option<&'static str>,
}

impl Source {
    /// Finds the configured model's files.
    ///
    /// # Errors
    ///
    /// [`Error::Setup`] saying where it was looked for and what to do.
    pub(super) fn find(config: &Config) -> Result<Self> {
        let known = hub::known(&config.name);
        if let Some(folder) = &config.dir {
            return from_dir(config, folder, known);
        }
        if let Some(folder) = bundled(&config.name) {
            let onnx = onnx_in(&folder)?;
            return build(config, config.name.clone(), folder, onnx, known);
        }
        let Some(known) = known else {
            return Err(Error::setup(
                format!("there is no model named {:?}: neither in models/ nor among fastembed's", config.name),
                "set model.name to all-minilm-l6-v2 or bge-small-en-v1.5, or model.dir to a folder with an ONNX model",
            ));
        };
        let wanted = Wanted {
            section: "model",
            name: &config.name,
            hub_cache: config.hub_cache.as_deref(),
            download: config.download,
        };
        let folder = hub::folder(&wanted, &known)?;
        let onnx = folder.join(&known.file);
        build(config, config.name.clone(), folder, onnx, Some(known))
    }

    /// Returns the file that holds weights outside of the ONNX file, as large models have it.
    pub(super) fn external_weights(&self) -> Option<PathBuf> {
        let mut name = self.onnx.file_name()?.to_owned();
        name.push("_data");
        Some(self.onnx.with_file_name(name)).filter(|path| path.is_file())
    }

    /// Returns the stored vectors of the self-test, when the model brings some.
    pub(super) fn reference(&self) -> Option<PathBuf> {
        Some(self.folder.join("reference.json")).filter(|path| path.is_file())
    }
}

fn bundled(name: &str) -> Option<PathBuf> {
    // A name is one folder, never a path out of models/.
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if !plain || name.is_empty() || name.starts_with('.') {
        return None;
    }
    places::find(&Path::new("models").join(name)).filter(|folder| folder.is_dir())
}

fn from_dir(config: &Config, folder: &Path, known: Option<Known>) -> Result<Source> {
    if !folder.is_dir() {
        let message = format!("model.dir is not a folder: {}", folder.display());
        return Err(Error::setup(message, "set it to a folder with model.onnx and tokenizer.json"));
    }
    let onnx = onnx_in(folder)?;
    // Left at its default, the name would call any folder's model the bundled one.
    let unnamed = config.name == Config::default().name;
    let own_name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let (name, known) = match own_name {
        Some(own_name) if unnamed => (own_name.clone(), hub::known(&own_name)),
        _ => (config.name.clone(), known),
    };
    build(config, name, folder.to_path_buf(), onnx, known)
}

/// Returns a folder's ONNX file: one of the usual names, or the only one there is.
pub(super) fn onnx_in(folder: &Path) -> Result<PathBuf> {
    if let Some(path) = ONNX_NAMES.map(|name| folder.join(name)).into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others = entries.filter(|path| path.extension().is_some_and(|extension| extension == "onnx"));
    match (others.next(), others.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(Error::setup(
            format!("{} holds no ONNX model", folder.display()),
            "put model.onnx there (with Git LFS: `git lfs pull`), or choose another model",
        )),
        (Some(_), Some(_)) => Err(Error::setup(
            format!("{} holds several ONNX models", folder.display()),
            "rename the one to use to model.onnx",
        )),
    }
}

fn build(config: &Config, name: String, folder: PathBuf, onnx: PathBuf, known: Option<Known>) -> Result<Source> {
    let known = known.unwrap_or_default();
    let pooling = config.pooling.or_else(|| pooling_in(&folder)).or(known.pooling).unwrap_or(Pooling::Mean);
    let prompts = json(&folder, "config_sentence_transformers.json");
    let prompt = |keys: &[&str]| keys.iter().find_map(|key| prompts["prompts"][key].as_str().map(str::to_owned));
    let chosen = |configured: &Option<String>, own: Option<String>, known: &str| {
        configured.clone().or(own.filter(|prompt| !prompt.is_empty())).unwrap_or_else(|| known.to_owned())
    };
    Ok(Source {
        query_prefix: chosen(&config.query_prefix, prompt(&["query"]), known.query_prefix),
        passage_prefix: chosen(&config.passage_prefix, prompt(&["passage", "document"]), known.passage_prefix),
        tokens_max: window(config, &folder)?,
        output: known.output,
        name,
        folder,
        onnx,
        pooling,
    })
}

/// Returns the pooling that sentence-transformers has written down.
fn pooling_in(folder: &Path) -> Option<Pooling> {
    let modes = json(folder, "1_Pooling/config.json");
    let set = |mode: &str| modes[mode].as_bool() == Some(true);
    match () {
        () if set("pooling_mode_cls_token") => Some(Pooling::Cls),
        () if set("pooling_mode_mean_tokens") => Some(Pooling::Mean),
        () if set("pooling_mode_lasttoken") => Some(Pooling::LastToken),
        () => None,
    }
}

/// Returns the window: configured, as trained, or the default; never beyond the positions that the model has.
fn window(config: &Config, folder: &Path) -> Result<usize> {
    let number = |file: &str, key: &str| json(folder, file)[key].as_u64().and_then(|n| usize::try_from(n).ok());
    let positions = number("config.json", "max_position_embeddings").unwrap_or(usize::MAX);
    if let Some(tokens) = config.tokens_max {
        return match tokens {
            _ if tokens < TOKENS_MIN => Err(Error::invalid("model.tokens_max", format!("is under {TOKENS_MIN}"))),
            _ if tokens > positions => {
                Err(Error::invalid("model.tokens_max", format!("is over {positions}, all that the model can read")))
            }
            _ => Ok(tokens),
        };
    }
    let trained = number("sentence_bert_config.json", "max_seq_length").unwrap_or(TOKENS_DEFAULT);
    // A window of thousands of tokens costs memory by its square: only who asks for it gets it.
    Ok(trained.min(positions).clamp(TOKENS_MIN, TOKENS_DEFAULT))
}

/// Returns a JSON file's content, `Null` when it is missing or damaged: all of these files are optional.
pub(super) fn json(folder: &Path, name: &str) -> Value {
    std::fs::read(folder.join(name)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
