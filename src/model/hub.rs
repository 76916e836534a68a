//! Models that fastembed knows by name, in the cache folder that the Hugging Face tools share.
//!
//! Layout: `models--ORG--REPO/refs/main` names a revision, whose files are in `snapshots/REVISION/`.

use std::path::{Path, PathBuf};

use fastembed::{EmbeddingModel, ModelInfo, OutputKey, TextEmbedding, TextRerank};

use crate::domain::Pooling;
use crate::error::{Error, Result};

#[cfg(feature = "hub")]
mod download;

/// What fastembed and the model's own documentation say of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    /// `Xenova/bge-small-en-v1.5`.
    pub(super) code: String,
    /// The ONNX file in it.
    pub(super) file: String,
    /// Its further files, such as weights too large for the ONNX file.
    pub(super) more_files: Vec<String>,
    pub(super) pooling: Option<Pooling>,
    pub(super) output: Option<&'static str>,
    pub(super) query_prefix: &'static str,
    pub(super) passage_prefix: &'static str,
}

/// What each family of models was trained to see before a query and before a passage, by a part of its code; the first
/// that fits. From the models' own cards.
const PREFIXES: &[(&str, &str, &str)] = &[
    ("bge-m3", "", ""),
    ("-zh-v1.5", "为这个句子生成表示以用于检索相关文章：", ""),
    ("bge-", "Represent this sentence for searching relevant passages: ", ""),
    ("snowflake-arctic-embed", "Represent this sentence for searching relevant passages: ", ""),
    ("mxbai-embed-large", "Represent this sentence for searching relevant passages: ", ""),
    ("multilingual-e5", "query: ", "passage: "),
    ("nomic-embed-text", "search_query: ", "search_document: "),
    ("modernbert-embed", "search_query: ", "search_document: "),
    ("embeddinggemma", "task: search result | query: ", "title: none | text: "),
];

/// Returns the model that fastembed calls by this name, however it is written: `bge-small-en-v1.5`, `BGESmallENV15` or
/// `Xenova/bge-small-en-v1.5`.
pub(super) fn known(name: &str) -> Option<Known> {
    let wanted = bare(name);
    let mut models = TextEmbedding::list_supported_models();
    // A model and its quantised twin may share a code; the name without Q means the former.
    models.sort_by_key(|info| format!("{:?}", info.model).len());
    models.iter().find(|info| names(info).contains(&wanted)).map(describe)
}

/// A model asked for by name, and where it may come from.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The section of the settings that asks for it.
    pub(super) section: &'static str,
    pub(super) name: &'a str,
    pub(super) hub_cache: Option<&'a Path>,
    pub(super) download: bool,
}

/// Returns the reranker that fastembed calls by this name, however it is written, or whose authors do.
pub(super) fn known_reranker(name: &str) -> Option<Known> {
    // Its authors publish no ONNX file; fastembed takes another's export of the same weights.
    let wanted = bare(name.strip_prefix("BAAI/").unwrap_or(name));
    let models = TextRerank::list_supported_models();
    let info = models.into_iter().find(|info| {
        let repository = info.model_code.rsplit('/').next().unwrap_or_default();
        [bare(&format!("{:?}", info.model)), bare(&info.model_code), bare(repository)].contains(&wanted)
    })?;
    Some(Known { code: info.model_code, file: info.model_file, more_files: info.additional_files, ..Known::default() })
}

/// Returns the folder with the model's files, downloading them if that is allowed.
///
/// # Errors
///
/// [`Error::Setup`] when it is not there, saying where it was looked for and how to get it.
pub(super) fn folder(wanted: &Wanted<'_>, known: &Known) -> Result<PathBuf> {
    let caches = caches(wanted.hub_cache);
    if let Some(folder) = caches.iter().find_map(|cache| snapshot(cache, known)) {
        return Ok(folder);
    }
    if wanted.download {
        return download(caches.first().map_or(Path::new(".amalfa/hub"), PathBuf::as_path), known);
    }
    let looked: Vec<String> = caches.iter().map(|cache| cache.display().to_string()).collect();
    Err(Error::setup(
        format!("the model {:?} ({}) is not in the hub cache ({})", wanted.name, known.code, looked.join(", ")),
        format!(
            "set {0}.download = true to fetch it, {0}.hub_cache to where it is, or {0}.dir to its files",
            wanted.section
        ),
    ))
}

#[cfg(feature = "hub")]
fn download(cache: &Path, known: &Known) -> Result<PathBuf> {
    tracing::info!(model = known.code, cache = %cache.display(), "downloading the model");
    download::fetch(cache, known, None)?;
    snapshot(cache, known).ok_or_else(|| Error::bug(format!("{} was downloaded but is not in the cache", known.code)))
}

#[cfg(not(feature = "hub"))]
fn download(_: &Path, known: &Known) -> Result<PathBuf> {
    Err(Error::setup(
        format!("{} is not in the hub cache, and this binary was built without downloads", known.code),
        "build it with `--features hub`, or put the model's files into a folder and set `dir` to it",
    ))
}

/// Returns the cache folders in the order in which they are tried: configured, then as the usual tools find theirs.
fn caches(configured: Option<&Path>) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(cache) = configured {
        return vec![cache.to_path_buf()];
    }
    let home = variable("HOME").or_else(|| variable("USERPROFILE"));
    let places = [
        variable("HF_HUB_CACHE"),
        variable("HF_HOME").map(|home| home.join("hub")),
        home.map(|home| home.join(".cache/huggingface/hub")),
        variable("FASTEMBED_CACHE_DIR"),
    ];
    places.into_iter().flatten().collect()
}

/// Returns the snapshot folder of the cached revision, when all files are there.
fn snapshot(cache: &Path, known: &Known) -> Option<PathBuf> {
    let repository = cache.join(format!("models--{}", known.code.replace('/', "--")));
    let revision = std::fs::read_to_string(repository.join("refs/main")).ok()?;
    let folder = repository.join("snapshots").join(revision.trim());
    let complete = files(known).all(|file| folder.join(file).is_file());
    complete.then_some(folder)
}

/// Returns the files without which the model cannot be loaded.
fn files(known: &Known) -> impl Iterator<Item = &str> {
    let own = [known.file.as_str(), "tokenizer.json", "config.json", "tokenizer_config.json"];
    own.into_iter().chain(known.more_files.iter().map(String::as_str))
}

fn names(info: &ModelInfo<EmbeddingModel>) -> [String; 3] {
    let repository = info.model_code.rsplit('/').next().unwrap_or_default();
    [bare(&format!("{:?}", info.model)), bare(&info.model_code), bare(repository)]
}

fn bare(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn describe(info: &ModelInfo<EmbeddingModel>) -> Known {
    let code = info.model_code.to_lowercase();
    let (_, query_prefix, passage_prefix) =
        PREFIXES.iter().find(|(part, ..)| code.contains(part)).copied().unwrap_or_default();
    Known {
        code: info.model_code.clone(),
        file: info.model_file.clone(),
        more_files: info.additional_files.clone(),
        pooling: TextEmbedding::get_default_pooling_method(&info.model).map(|pooling| match pooling {
            fastembed::Pooling::Cls => Pooling::Cls,
            fastembed::Pooling::Mean => Pooling::Mean,
        }),
        output: match info.output_key {
            Some(OutputKey::ByName(name)) => Some(name),
            _ => None,
        },
        query_prefix,
        passage_prefix,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_known_by_any_of_its_names() {
        let expected = known("BGESmallENV15").unwrap();
        for name in ["bge-small-en-v1.5", "BGE-Small-EN-v1.5", "Xenova/bge-small-en-v1.5"] {
            assert_eq!(known(name).unwrap(), expected, "{name}");
        }
        assert_eq!(known("no-such-model"), None);
    }

    #[test]
    fn a_model_brings_its_pooling_and_prefixes() {
        let bge = known("bge-small-en-v1.5").unwrap();
        assert_eq!(bge.pooling, Some(Pooling::Cls));
        assert_eq!(bge.query_prefix, "Represent this sentence for searching relevant passages: ");
        let e5 = known("multilingual-e5-small").unwrap();
        assert_eq!((e5.query_prefix, e5.passage_prefix, e5.pooling), ("query: ", "passage: ", Some(Pooling::Mean)));
        let nomic = known("nomic-embed-text-v1.5").unwrap();
        assert_eq!((nomic.query_prefix, nomic.file.as_str()), ("search_query: ", "onnx/model.onnx"));
        assert_eq!(known("bge-m3").unwrap().query_prefix, "");
    }

    #[test]
    fn a_reranker_is_known_by_any_of_its_names() {
        for name in ["bge-reranker-v2-m3", "BGERerankerV2M3", "rozgo/bge-reranker-v2-m3", "BAAI/bge-reranker-v2-m3"] {
            assert_eq!(known_reranker(name).unwrap().more_files, ["model.onnx.data"], "{name}");
        }
        assert_eq!(known_reranker("jina-reranker-v1-turbo-en").unwrap().file, "onnx/model.onnx");
        assert_eq!(known_reranker("BAAI/bge-reranker-base").unwrap().code, "BAAI/bge-reranker-base");
        assert_eq!(known_reranker("bge-small-en-v1.5"), None, "an embedding model is no reranker");
    }

    #[test]
    fn every_model_of_fastembed_is_found_by_its_own_name() {
        for info in TextEmbedding::list_supported_models() {
            let found = known(&format!("{:?}", info.model)).unwrap();
            assert_eq!((found.code, found.file), (info.model_code, info.model_file));
        }
    }
}
