//! Documents, their passages, the references between them, and the identity of the model that embedded them.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Vector, limits};
use crate::error::{Error, Result};

/// The name of a document, unique in the index: a file's source path, a JSON Lines `_id`, or what a client chose.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct DocumentId(String);

impl DocumentId {
    /// Returns the id when it is 1 to [`limits::ID_BYTES_MAX`] bytes without control characters.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] on `field` otherwise.
    pub fn parse(field: &str, id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        if id.is_empty() {
            return Err(Error::invalid(field, "is empty; a document needs an id"));
        }
        if id.len() > limits::ID_BYTES_MAX {
            return Err(Error::invalid(field, format!("has {} bytes; at most {}", id.len(), limits::ID_BYTES_MAX)));
        }
        if id.chars().any(char::is_control) {
            return Err(Error::invalid(field, "contains a control character"));
        }
        Ok(Self(id))
    }

    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for DocumentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The number of a chunk: given by the store, rising, never used twice, so that a vector never changes under its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChunkId(pub u64);

/// A document as it comes in, before it is cut into chunks.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Its name.
    pub id: DocumentId,
    /// Where it came from: a path, a URL, `corpus.jsonl#42`. Unique too; the id when the client gave none.
    pub source: String,
    /// Its title; empty when it has none.
    pub title: String,
    /// The whole text, Markdown or plain, without front matter.
    pub text: String,
    /// The day it is of, as `YYYY-MM-DD`.
    pub date: Option<jiff::civil::Date>,
    /// What it is (`guide`, `brief`): front matter `type`.
    pub kind: Option<String>,
    /// What it is about: front matter `domain`.
    pub domain: Option<String>,
    /// Everything else that its front matter or its client said.
    pub metadata: Map<String, Value>,
}

/// A passage of a document, sized to the model's window.
///
/// The chunks of a document cover its text without a gap: the text is the concatenation of each chunk's text after its
/// first `overlap` bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Its place in the document, from 0.
    pub ordinal: u32,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text, a slice of the document's.
    pub text: String,
    /// How many bytes at the start of `text` repeat the end of the chunk before.
    pub overlap: u32,
    /// Its length in the model's tokens, as embedded.
    pub tokens: u32,
    /// Its vector; `None` when it has no direction and so cannot be found.
    pub vector: Option<Vector>,
    /// The codes of its tokens, as the engine has made them; `None` when none are kept.
    pub token_codes: Option<Vec<u8>>,
}

/// A mention of one document in another, as written, before it is resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    /// How it was mentioned.
    pub kind: EdgeKind,
    /// What was written: a wikilink's target, a link's path, a tag.
    pub target: String,
}

/// How one document points at another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EdgeKind {
    /// `[[Target]]` or `[[Target|alias]]`.
    Cites,
    /// `[text](relative/path.md)`.
    LinksTo,
    /// A tag that names a document.
    TaggedAs,
}

impl EdgeKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Cites, Self::LinksTo, Self::TaggedAs];

    /// Returns the word that the database and the metrics use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cites => "cites",
            Self::LinksTo => "links_to",
            Self::TaggedAs => "tagged_as",
        }
    }
}

/// A resolved reference between two documents of the index.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The document that mentions.
    pub from: DocumentId,
    /// The document that is mentioned.
    pub to: DocumentId,
    /// How.
    pub kind: EdgeKind,
}

/// A stored document without its text: what listing shows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DocumentRecord {
    /// Its name.
    pub id: DocumentId,
    /// Where it came from.
    pub source: String,
    /// Its title.
    pub title: String,
    /// The day it is of.
    pub date: Option<jiff::civil::Date>,
    /// What it is.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// What it is about.
    pub domain: Option<String>,
    /// Everything else.
    pub metadata: Map<String, Value>,
    /// SHA-256 of all that was given, in hex: the same hash is not embedded again.
    pub content_hash: String,
    /// Passages stored.
    pub chunks: u32,
    /// When it was first stored.
    pub created: jiff::Timestamp,
    /// When it was last changed.
    pub updated: jiff::Timestamp,
}

/// A stored passage with what a hit shows of its document.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    /// Its number.
    pub chunk: ChunkId,
    /// Its document.
    pub document: DocumentId,
    /// The document's source.
    pub source: String,
    /// The document's title.
    pub title: String,
    /// The document's date.
    pub date: Option<jiff::civil::Date>,
    /// The document's type.
    pub kind: Option<String>,
    /// The document's domain.
    pub domain: Option<String>,
    /// The document's other metadata.
    pub metadata: Map<String, Value>,
    /// Its place in the document, from 0.
    pub ordinal: u32,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// Its text.
    pub text: String,
}

/// How a model's token vectors become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean of the token vectors under the attention mask.
    Mean,
    /// The first token's vector.
    Cls,
    /// The last token's vector.
    LastToken,
}

/// All that decides what vector a text gets. Two indexes may be compared only when all of it is equal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelIdentity {
    /// The model's name.
    pub name: String,
    /// SHA-256 of the ONNX file, in hex.
    pub file_sha256: String,
    /// Coordinates of a vector.
    pub dimension: usize,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Put before a query.
    pub query_prefix: String,
    /// Put before a passage.
    pub passage_prefix: String,
    /// Tokens that the model reads of a text.
    pub tokens_max: usize,
    /// ONNX Runtime's version: other versions can give other vectors for quantised files.
    pub onnxruntime: String,
}

impl ModelIdentity {
    /// Returns the names of the fields in which two identities differ, with both values.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let fields = |identity: &Self| match serde_json::to_value(identity) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let theirs = fields(other);
        fields(self)
            .into_iter()
            .filter(|(key, value)| theirs.get(key) != Some(value))
            .map(|(key, value)| format!("{key} {value} ≠ {}", theirs.get(&key).unwrap_or(&Value::Null)))
            .collect()
    }
}
