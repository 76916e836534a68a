//! Compares what this machine computes with vectors that were stored with the model.
//!
//! CPUs without VNNI instructions multiply 8-bit numbers in pairs that saturate at 16 bits; how much that moves a model's
//! vectors depends on its weights and can only be measured on the spot.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::backend::Backend;
use crate::domain::Vector;
use crate::error::{Error, Result};

/// How the self-test at load went.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SelfTest {
    /// The smallest cosine between a stored vector and the one computed here; `None` for a model without stored vectors.
    pub cosine_min: Option<f32>,
    /// What is wrong and what to do, when something is.
    pub warning: Option<String>,
}

/// The file `reference.json`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reference {
    /// Under which cosine retrieval suffers; where it comes from stands in the model's README.
    cosine_min: f32,
    texts: Vec<ReferenceText>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReferenceText {
    text: String,
    vector: Vec<f32>,
}

/// Embeds the stored texts and compares.
///
/// # Errors
///
/// [`Error::Setup`] when the file cannot be read; what the model's calls return.
pub(super) fn run(reference: &Path, session: &mut dyn Backend) -> Result<SelfTest> {
    let reference = read(reference)?;
    let mut cosine_min = f32::INFINITY;
    for ReferenceText { text, vector } in reference.texts {
        let stored = Vector::normalise("reference", vector)?;
        let computed = Vector::normalise("vector", session.vector(&text)?)?;
        let cosine = match (stored, computed) {
            (Some(stored), Some(computed)) if stored.dimension() == computed.dimension() => stored.dot(&computed),
            _ => f32::NEG_INFINITY,
        };
        cosine_min = cosine_min.min(cosine);
    }
    Ok(judge(cosine_min, reference.cosine_min))
}

fn judge(cosine_min: f32, wanted: f32) -> SelfTest {
    let warning = (cosine_min < wanted).then(|| {
        format!(
            "the model's vectors differ on this machine from the stored ones (cosine {cosine_min:.3}, at least {wanted} is \
             wanted), so results will be worse; use an ONNX model that is not quantised (model.dir), or a CPU with VNNI"
        )
    });
    SelfTest { cosine_min: cosine_min.is_finite().then_some(cosine_min), warning }
}

fn read(path: &Path) -> Result<Reference> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string());
    let parsed = bytes.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()));
    parsed.map_err(|error| {
        Error::setup(
            format!("the stored vectors in {} cannot be read: {error}", path.display()),
            "restore the file, or remove it to go without the self-test",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::arithmetic::Arithmetic;

    fn stored(dir: &Path, text: &str, computed_from: &str) -> std::path::PathBuf {
        let vector = Arithmetic { dimension: 32 }.vector(computed_from).unwrap();
        let reference = serde_json::json!({"cosine_min": 0.97, "texts": [{"text": text, "vector": vector}]});
        let path = dir.join("reference.json");
        std::fs::write(&path, reference.to_string()).unwrap();
        path
    }

    #[test]
    fn the_stored_vectors_are_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let test = run(&stored(dir.path(), "one two", "one two"), &mut Arithmetic { dimension: 32 }).unwrap();
        assert!(test.cosine_min.unwrap() > 0.9999 && test.warning.is_none(), "{test:?}");
    }

    #[test]
    fn other_vectors_bring_a_warning_with_advice() {
        let dir = tempfile::tempdir().unwrap();
        let test = run(&stored(dir.path(), "one two", "three four"), &mut Arithmetic { dimension: 32 }).unwrap();
        assert!(test.warning.unwrap().contains("not quantised"));
        let test = run(&stored(dir.path(), "one", "one"), &mut Arithmetic { dimension: 16 }).unwrap();
        assert!(test.warning.is_some(), "another dimension passed");
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reference.json");
        std::fs::write(&path, "{").unwrap();
        assert!(matches!(run(&path, &mut Arithmetic { dimension: 32 }), Err(Error::Setup { .. })));
    }
}
