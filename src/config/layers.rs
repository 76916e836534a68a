//! One layer of settings over another, with the origin of each value.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::{Config, Loaded, Sources};
use crate::error::{Error, Result};

/// The file that is read when none is named.
const DEFAULT_FILE: &str = "amalfa.toml";
/// Names the file, as `--config` does.
const FILE_VARIABLE: &str = "AMALFA_CONFIG";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Built in.
    Default,
    /// A file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(String),
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// Its key, as in the file: `grpc.address`.
    pub key: String,
    /// Its value; null where none is set.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// The settings by dotted key.
type Settings = BTreeMap<String, (Value, Origin)>;

/// See [`super::load`].
pub(super) fn load(sources: &Sources) -> Result<Loaded> {
    let mut settings = defaults()?;
    if let Some((path, required)) = file(sources) {
        read_file(&path, required, &mut settings)?;
    }
    for (name, text) in sources.environment.iter().filter(|(name, _)| name != FILE_VARIABLE) {
        let key = settings.keys().find(|key| variable(key) == *name).cloned();
        let key = key.ok_or_else(|| unknown(name, settings.keys().map(|key| variable(key)), "the environment"))?;
        set(&mut settings, &key, parse(text), Origin::Environment(name.clone()))?;
    }
    for (key, text, flag) in &sources.flags {
        set(&mut settings, key, parse(text), Origin::Flag(flag.clone()))?;
    }
    let config = build(&settings)?;
    let settings = settings.into_iter().map(|(key, (value, origin))| Setting { key, value, origin }).collect();
    Ok(Loaded { config, settings })
}

fn defaults() -> Result<Settings> {
    let tree = serde_json::to_value(Config::default()).map_err(|e| Error::internal("cannot write the defaults", e))?;
    let mut settings = Settings::new();
    flatten("", tree, &mut |key, value| {
        settings.insert(key, (value, Origin::Default));
        Ok(())
    })?;
    Ok(settings)
}

fn file(sources: &Sources) -> Option<(PathBuf, bool)> {
    let variable = sources.environment.iter().find(|(name, _)| name == FILE_VARIABLE);
    let named = sources.file.clone().or_else(|| variable.map(|(_, path)| path.into()));
    Some(named.map_or_else(|| (DEFAULT_FILE.into(), false), |path| (path, true)))
}

fn read_file(path: &Path, required: bool, settings: &mut Settings) -> Result<()> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound && !required => return Ok(()),
        Err(e) => {
            let message = format!("cannot read the configuration {}: {e}", path.display());
            return Err(Error::setup(message, "check --config or AMALFA_CONFIG"));
        }
    };
    let table: toml::Table = text.parse().map_err(|e: toml::de::Error| {
        Error::setup(
            format!("{} is not valid TOML: {}", path.display(), e.to_string().trim_end()),
            "mend the line named above",
        )
    })?;
    let tree = serde_json::to_value(table).map_err(|e| Error::internal("cannot convert TOML", e))?;
    flatten("", tree, &mut |key, value| set(settings, &key, value, Origin::File(path.to_owned())))
}

/// Calls `each` with every leaf of a tree of tables.
fn flatten(prefix: &str, tree: Value, each: &mut dyn FnMut(String, Value) -> Result<()>) -> Result<()> {
    match tree {
        Value::Object(fields) => fields.into_iter().try_for_each(|(name, value)| {
            let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
            flatten(&key, value, each)
        }),
        leaf => each(prefix.to_owned(), leaf),
    }
}

fn set(settings: &mut Settings, key: &str, value: Value, origin: Origin) -> Result<()> {
    if !settings.contains_key(key) {
        return Err(unknown(key, settings.keys().cloned(), &origin.to_string()));
    }
    let former = settings.insert(key.to_owned(), (value, origin.clone()));
    // One value at a time, so that the error can name the key and where its value came from.
    if let Err(e) = build(settings) {
        let expected = former.map_or(Value::Null, |(value, _)| value);
        let message = format!("{key} (from {origin}): {e}");
        return Err(Error::setup(message, format!("give it a value like its default, {expected}")));
    }
    Ok(())
}

fn build(settings: &Settings) -> Result<Config> {
    let mut tree = Value::Object(serde_json::Map::new());
    for (key, (value, _)) in settings {
        let pointer = key.split('.').fold(&mut tree, |tree, part| &mut tree[part]);
        *pointer = value.clone();
    }
    serde_json::from_value(tree).map_err(|e| Error::invalid("setting", e.to_string()))
}

/// Reads the text of a variable or a flag as the number or truth value that it looks like.
fn parse(text: &str) -> Value {
    text.parse::<i64>()
        .map(Value::from)
        .or_else(|_| text.parse::<bool>().map(Value::from))
        .or_else(|_| text.parse::<f64>().map(Value::from))
        .unwrap_or_else(|_| Value::from(text))
}

/// Returns the variable that sets a key: `grpc.address` → `AMALFA_GRPC_ADDRESS`.
fn variable(key: &str) -> String {
    format!("AMALFA_{}", key.replace('.', "_").to_uppercase())
}

fn unknown(key: &str, known: impl Iterator<Item = String>, origin: &str) -> Error {
    let nearest = known.min_by_key(|candidate| distance(candidate, key));
    let message = format!("unknown setting {key} in {origin}");
    Error::setup(message, format!("did you mean {}? `amalfa config print` lists them all", nearest.unwrap_or_default()))
}

/// Returns the Levenshtein distance of two keys.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            let least = substituted.min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], least);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sources(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> (tempfile::TempDir, Sources) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("amalfa.toml");
        std::fs::write(&path, file).unwrap();
        let sources = Sources {
            file: Some(path),
            environment: environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            flags: flags.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned(), "--set".to_owned())).collect(),
        };
        (folder, sources)
    }

    #[test]
    fn a_later_source_wins_and_is_named() {
        let (_folder, sources) = sources(
            "[model]\nsessions = 1\nqueue_len = 5\n[store]\nreaders = 3",
            &[("AMALFA_MODEL_SESSIONS", "2"), ("AMALFA_STORE_READERS", "6")],
            &[("store.readers", "7")],
        );
        let loaded = load(&sources).unwrap();
        assert_eq!(
            (loaded.config.model.queue_len, loaded.config.model.sessions, loaded.config.store.readers),
            (5, 2, 7)
        );
        let origin = |key: &str| loaded.settings.iter().find(|s| s.key == key).unwrap().origin.clone();
        assert!(matches!(origin("model.queue_len"), Origin::File(_)));
        assert_eq!(origin("model.sessions"), Origin::Environment("AMALFA_MODEL_SESSIONS".into()));
        assert_eq!(origin("store.readers"), Origin::Flag("--set".into()));
        assert_eq!(origin("model.name"), Origin::Default);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known_one() {
        for (file, environment, flags, nearest) in [
            ("[store]\nreader = 3", vec![], vec![], "store.readers"),
            ("", vec![("AMALFA_STORE_READER", "3")], vec![], "AMALFA_STORE_READERS"),
            ("", vec![], vec![("store.reader", "3")], "store.readers"),
        ] {
            let (_folder, sources) = sources(file, &environment, &flags);
            let error = load(&sources).unwrap_err().to_string();
            assert!(error.contains("unknown setting") && error.contains(nearest), "{error}");
        }
    }

    #[test]
    fn a_value_of_the_wrong_type_names_its_key_and_origin() {
        let (_folder, sources) = sources("", &[("AMALFA_STORE_READERS", "many")], &[]);
        let error = load(&sources).unwrap_err().to_string();
        assert!(error.contains("store.readers (from AMALFA_STORE_READERS)"), "{error}");
    }

    #[test]
    fn a_named_file_must_exist_and_be_toml() {
        let missing = Sources { file: Some("/nonexistent/amalfa.toml".into()), ..Sources::default() };
        assert!(load(&missing).unwrap_err().to_string().contains("cannot read"));
        let (_folder, broken) = sources("[store", &[], &[]);
        assert!(load(&broken).unwrap_err().to_string().contains("not valid TOML"));
    }

    #[test]
    fn no_two_settings_share_a_variable() {
        let names: Vec<_> = defaults().unwrap().keys().map(|key| variable(key)).collect();
        let unique: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(names.len(), unique.len());
    }
}
