//! Holds the picture of ARCHITECTURE.md against the code: who may import whom, and who alone knows which foreign world.

#![allow(clippy::unwrap_used)] // a helper that fails is a test that fails

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A module, and the modules that it may import besides itself and `error`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("error", &[]),
    ("domain", &[]),
    ("telemetry", &["domain"]),
    ("health", &["telemetry"]),
    ("store", &["domain", "telemetry"]),
    ("engine", &["domain", "telemetry"]),
    ("model", &["domain", "telemetry"]),
    ("search", &["domain", "engine", "model", "store", "telemetry"]),
    ("ingest", &["domain", "engine", "model", "store", "telemetry"]),
    // `model` only for the type of an embedded text that `search` returns.
    ("api", &["domain", "health", "ingest", "model", "search", "telemetry"]),
    ("admin", &["domain", "health", "telemetry"]),
    ("config", &["admin", "api", "engine", "ingest", "model", "search", "store", "telemetry"]),
];

/// A crate, and the modules that alone may name it.
const KNOWN_BY: &[(&str, &[&str])] = &[
    ("rusqlite", &["store"]),
    ("r2d2", &["store"]),
    ("r2d2_sqlite", &["store"]),
    ("fastembed", &["model"]),
    ("ort", &["model"]),
    ("tokenizers", &["model"]),
    ("hyper_rustls", &["model"]),
    ("rustls", &["model"]),
    ("tonic", &["api", "telemetry", "tools"]),
    ("tonic_health", &["api"]),
    ("tonic_reflection", &["api"]),
    ("tonic_types", &["api"]),
    ("prost", &["api", "telemetry"]),
    ("axum", &["admin"]),
    ("metrics_process", &["telemetry"]),
    ("opentelemetry", &["telemetry"]),
    ("opentelemetry_sdk", &["telemetry"]),
    ("opentelemetry_otlp", &["telemetry"]),
    ("tikv_jemallocator", &["telemetry"]),
    ("tikv_jemalloc_ctl", &["telemetry"]),
    // Front matter may be TOML.
    ("toml", &["config", "ingest"]),
];

#[test]
fn modules_import_only_what_the_table_allows() {
    let mut violations = Vec::new();
    for file in sources() {
        let Some((_, allowed)) = MAY_IMPORT.iter().find(|(module, _)| *module == file.module) else { continue };
        for imported in file.imports() {
            let known = imported == file.module || imported == "error" || allowed.contains(&imported.as_str());
            if !known {
                violations.push(format!("{} imports {imported}", file.path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn foreign_worlds_are_known_in_one_place() {
    let mut violations = Vec::new();
    for file in sources() {
        for (name, homes) in KNOWN_BY {
            if !homes.contains(&file.module.as_str()) && file.names(name) {
                violations.push(format!("{} names {name}", file.path.display()));
            }
        }
    }
    assert!(violations.is_empty(), "{violations:#?}");
}

#[test]
fn every_module_of_the_tables_exists() {
    let modules: BTreeSet<_> = sources().into_iter().map(|file| file.module).collect();
    let named =
        MAY_IMPORT.iter().map(|(module, _)| *module).chain(KNOWN_BY.iter().flat_map(|(_, homes)| *homes).copied());
    for module in named {
        assert!(modules.contains(module), "there is no module {module}");
    }
}

#[test]
fn every_file_says_what_it_is_for() {
    for file in sources() {
        assert!(file.text.starts_with("//!"), "{} has no //! header", file.path.display());
    }
}

#[test]
fn unsafe_code_stands_in_three_places_only() {
    for file in sources() {
        let allowed = ["engine/kernels.rs", "engine/originals.rs", "model/runtime.rs"]
            .iter()
            .any(|path| file.path.ends_with(path));
        assert!(allowed || !file.text.contains("allow(unsafe_code)"), "{} allows unsafe code", file.path.display());
    }
}

struct Source {
    path: PathBuf,
    /// The top-level module that it belongs to.
    module: String,
    /// Whether it is `tests.rs` or inside `tests/`.
    is_test: bool,
    text: String,
}

impl Source {
    /// Returns the top-level modules that its code names as `crate::X`, in groups (`crate::{a, b}`) too.
    fn imports(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for rest in self.code().split("crate::").skip(1) {
            match rest.strip_prefix('{') {
                Some(group) => {
                    let group = group.split(';').next().unwrap_or_default();
                    found.extend(top_level(group).into_iter().map(first_word));
                }
                None => {
                    found.insert(first_word(rest));
                }
            }
        }
        found.retain(|name| !name.is_empty());
        found
    }

    /// Returns whether its code names a crate in a path.
    fn names(&self, name: &str) -> bool {
        let needle = format!("{name}::");
        self.code().match_indices(&needle).any(|(at, _)| {
            let before = self.code()[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    }

    /// Returns its text without comments and without its tests; nothing of a file of tests.
    fn code(&self) -> String {
        if self.is_test {
            return String::new();
        }
        let text = self.text.split("#[cfg(test)]").next().unwrap_or_default();
        text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
    }
}

fn first_word(text: impl AsRef<str>) -> String {
    text.as_ref().trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Splits the inside of a `{…}` at the commas that are not in inner braces.
fn top_level(group: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut depth = 0;
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut open = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap();
                let module = inside.iter().next().unwrap().to_string_lossy().trim_end_matches(".rs").to_owned();
                let is_test = inside.iter().any(|part| part == "tests" || part == "tests.rs");
                found.push(Source { module, is_test, text: std::fs::read_to_string(&path).unwrap(), path });
            }
        }
    }
    assert!(found.len() > 10, "the sources were not found");
    found
}
