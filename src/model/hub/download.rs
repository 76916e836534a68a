//! Downloads a model's files into the hub cache; only when the configuration allows it.

use std::path::Path;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};

use super::{Known, files};
use crate::error::{Error, Result};

/// Files that are taken when there are some.
const OPTIONAL: [&str; 4] = [
    "special_tokens_map.json",
    "sentence_bert_config.json",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
];

/// Fetches the files of the newest revision from `endpoint`, or from the hub, or from `HF_ENDPOINT`.
///
/// # Errors
///
/// [`Error::Setup`] when a file cannot be had.
pub(super) fn fetch(cache: &Path, known: &Known, endpoint: Option<&str>) -> Result<()> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let mut builder = ApiBuilder::new().with_cache_dir(cache.to_path_buf()).with_progress(false);
    if let Some(endpoint) = endpoint.map(str::to_owned).or_else(|| variable("HF_ENDPOINT")) {
        builder = builder.with_endpoint(endpoint);
    }
    if let Some(token) = variable("HF_TOKEN") {
        builder = builder.with_token(Some(token));
    }
    let repository = builder.build().map_err(|error| failed(known, "", &error))?.model(known.code.clone());
    for file in files(known) {
        repository.get(file).map_err(|error| failed(known, file, &error))?;
    }
    fetch_optional(&repository);
    Ok(())
}

/// Many repositories lack some of these; the defaults then hold.
fn fetch_optional(repository: &ApiRepo) {
    for file in OPTIONAL {
        if let Err(error) = repository.get(file) {
            tracing::debug!(file, %error, "an optional file of the model was not downloaded");
        }
    }
}

fn failed(known: &Known, file: &str, error: &ApiError) -> Error {
    Error::setup(
        format!("{} {file} could not be downloaded: {error}", known.code),
        "check the network (HTTPS_PROXY, HF_ENDPOINT, HF_TOKEN), or put the model's files into a folder and set `dir`",
    )
}
