//! From a text to its vectors, on a worker's thread.

use super::backend::{Session, Vectors};
use super::late_interaction::{TokenVectors, required};
use super::tokens::{Reading, Tokens};
use super::workers::Done;
use crate::domain::Vector;
use crate::error::{Error, Result};

/// A text's vector.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedded {
    /// `None` when it has no direction.
    pub vector: Option<Vector>,
    /// Tokens read, the prefix's included, special ones left out.
    pub tokens: u32,
    /// Tokens beyond the model's window, not read.
    pub tokens_cut: u32,
}

/// A query's vector and, where the model gives them, those of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddedQuery {
    /// The query's own.
    pub embedded: Embedded,
    /// Its tokens'.
    pub tokens: Option<TokenVectors>,
}

impl EmbeddedQuery {
    /// Returns the tokens' vectors.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] when the model gives none.
    pub fn tokens(&self) -> Result<&TokenVectors> {
        required(self.tokens.as_ref())
    }
}

/// What a worker needs to know to read a text.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) tokens: Tokens,
    /// Tokens of the window that are not special.
    pub(super) room: usize,
    pub(super) query_prefix: String,
    pub(super) passage_prefix: String,
}

impl Reader {
    /// Returns what the model will read of a query.
    pub(super) fn query(&self, text: &str) -> Result<Reading> {
        self.tokens.fit(&self.query_prefix, text, self.room)
    }

    /// Returns what the model will read of a passage.
    pub(super) fn passage(&self, text: &str) -> Result<Reading> {
        self.tokens.fit(&self.passage_prefix, text, self.room)
    }
}

/// Embeds a text.
pub(super) fn embed(reading: Reading, session: &mut Session) -> Done<Embedded> {
    let values = session.vector(&reading.text)?;
    let embedded = embedded(&reading, values)?;
    Ok((embedded, count(reading.tokens)))
}

/// Embeds a text and its tokens, in one run of the model.
pub(super) fn embed_with_tokens(reading: Reading, session: &mut Session) -> Done<EmbeddedQuery> {
    let Vectors { text, tokens } = session.vectors(&reading.text)?;
    let embedded = embedded(&reading, text)?;
    Ok((EmbeddedQuery { embedded, tokens: tokens.map(TokenVectors::normalise) }, count(reading.tokens)))
}

fn embedded(reading: &Reading, values: Vec<f32>) -> Result<Embedded> {
    let vector = Vector::normalise("vector", values)
        .map_err(|error| Error::internal("the model returned a vector that is not finite", error))?;
    Ok(Embedded { vector, tokens: count(reading.tokens), tokens_cut: count(reading.tokens_cut) })
}

/// Returns a count as metrics and answers have it.
pub(super) fn count(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}
