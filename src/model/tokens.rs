//! Tokens of a text: how many, where, and what part of it the model will read.

use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// Bytes tokenised at once. The tokenizer's own bookkeeping takes some hundred bytes per token, so that a long document
/// in one piece would take a hundred times its size.
const PIECE_BYTES: usize = 16 << 10;

/// Cuts texts into tokens.
#[derive(Debug)]
pub(super) enum Tokens {
    /// As the model was trained.
    Subwords(Box<Tokenizer>),
    /// At white space, for [`super::arithmetic`].
    Words,
}

/// What the model reads of a text.
#[derive(Debug, PartialEq)]
pub(super) struct Reading {
    /// The prefix and the text, or enough of it to fill the window.
    pub(super) text: String,
    /// Tokens read, special ones left out.
    pub(super) tokens: usize,
    /// Tokens beyond the window.
    pub(super) tokens_cut: usize,
}

impl Tokens {
    /// Takes a tokenizer over, without the truncation and padding that its file or fastembed may have set.
    pub(super) fn subwords(mut tokenizer: Tokenizer) -> Result<Self> {
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            .map_err(|error| Error::internal("the tokenizer's truncation cannot be unset", error))?;
        Ok(Self::Subwords(Box::new(tokenizer)))
    }

    /// Returns the number of special tokens that the model puts around a text.
    pub(super) fn special(&self) -> Result<usize> {
        match self {
            Self::Subwords(tokenizer) => Ok(encode(tokenizer, "", true)?.len()),
            Self::Words => Ok(0),
        }
    }

    /// Returns the byte ranges of a text's tokens, special ones left out. Linear in the text's length.
    pub(super) fn offsets(&self, text: &str) -> Result<Vec<(usize, usize)>> {
        match self {
            Self::Subwords(tokenizer) => {
                let mut offsets = Vec::new();
                for (start, piece) in pieces(text, PIECE_BYTES) {
                    let encoding = encode(tokenizer, piece, false)?;
                    offsets.extend(encoding.get_offsets().iter().map(|(from, to)| (from + start, to + start)));
                }
                Ok(offsets)
            }
            Self::Words => Ok(words(text).map(|(start, word)| (start, start + word.len())).collect()),
        }
    }

    /// Puts the prefix before a text and returns what of it the model will read, given room for `room` tokens.
    pub(super) fn fit(&self, prefix: &str, text: &str, room: usize) -> Result<Reading> {
        let mut text = format!("{prefix}{text}");
        let offsets = self.offsets(&text)?;
        let tokens = offsets.len().min(room);
        // The session cuts by its own count; this only spares it the tokenising of a long rest. Twice the window, because
        // the last word of a cut text may fall into other tokens than in the whole.
        if let Some((_, end)) = offsets.get(2 * room) {
            text.truncate(text.floor_char_boundary(*end));
        }
        Ok(Reading { text, tokens, tokens_cut: offsets.len() - tokens })
    }
}

/// Returns the words of a text, with where each starts.
pub(super) fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.split_whitespace().map(|word| (word.as_ptr() as usize - text.as_ptr() as usize, word))
}

fn encode(tokenizer: &Tokenizer, text: &str, special: bool) -> Result<tokenizers::Encoding> {
    tokenizer.encode(text, special).map_err(|error| Error::internal("the text cannot be tokenised", error))
}

/// Cuts a text into pieces of at most `bytes_max`, after white space where there is some, with where each starts.
fn pieces(text: &str, bytes_max: usize) -> impl Iterator<Item = (usize, &str)> {
    let mut start = 0;
    std::iter::from_fn(move || {
        let rest = &text[start..];
        if rest.is_empty() {
            return None;
        }
        let piece = &rest[..piece_end(rest, bytes_max)];
        let at = start;
        start += piece.len();
        Some((at, piece))
    })
}

fn piece_end(rest: &str, bytes_max: usize) -> usize {
    if rest.len() <= bytes_max {
        return rest.len();
    }
    let head = &rest[..rest.floor_char_boundary(bytes_max)];
    let space = head.char_indices().rev().find(|(_, character)| character.is_whitespace());
    space.map_or(head.len(), |(at, character)| at + character.len_utf8())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_that_fits_is_read_whole_after_its_prefix() {
        let reading = Tokens::Words.fit("query: ", "what is ownership", 8).unwrap();
        assert_eq!(reading, Reading { text: "query: what is ownership".to_owned(), tokens: 4, tokens_cut: 0 });
    }

    #[test]
    fn what_is_beyond_the_window_is_counted() {
        let reading = Tokens::Words.fit("", &"word ".repeat(1_000), 10).unwrap();
        assert_eq!((reading.tokens, reading.tokens_cut), (10, 990));
        assert!(reading.text.len() < 200, "{} bytes go to the session", reading.text.len());
    }

    proptest! {
        #[test]
        fn pieces_are_the_text_in_order(text in "(\\PC|\\s){0,200}", bytes_max in 4usize..40) {
            let mut end = 0;
            for (start, piece) in pieces(&text, bytes_max) {
                prop_assert_eq!(start, end);
                prop_assert!(!piece.is_empty() && piece.len() <= bytes_max);
                prop_assert_eq!(&text[start..start + piece.len()], piece);
                end = start + piece.len();
            }
            prop_assert_eq!(end, text.len());
        }
    }
}
