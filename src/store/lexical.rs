//! Finding passages by their words: FTS5 and its BM25.
//!
//! The index keeps no text of its own (`contentless_delete`), and triggers keep it in step with `chunks`. An external-content
//! index is as large and as fast, but must be told the old text of every row that goes: one slip there damages it silently.
//!
//! FTS5 scores every passage that has any word of the query, over a microsecond each, which makes a question's common words
//! expensive: 40–100 ms in 100,000 passages. Naming those passages costs a tenth of that. So a search first names the
//! passages of each word, which also says how rare the word is; the sum of what its words can bring is a bound on a
//! passage's score, and only passages whose bound reaches the score of the last one wanted are scored. The result is the
//! same, in 5–20 ms.

mod terms;

use std::time::Instant;

use roaring::RoaringTreemap;
use rusqlite::{Connection, ErrorCode, params};
use serde::{Deserialize, Serialize};

use super::chunks::numbers;
use super::failure::Failure;
use super::meta;
use super::pool::transact;
use super::statement::{row, rows, statement};
use crate::domain::{ChunkId, Deadline, LexicalSyntax};
use crate::error::{Error, Result};

/// BM25's saturation, which FTS5 fixes (<https://sqlite.org/fts5.html#the_bm25_function>): a word brings at most `K1 + 1`
/// times its rarity.
const K1: f64 = 1.2;
/// FTS5's least rarity, that of a word in half of all passages or more.
const RARITY_MIN: f64 = 1e-6;
/// A word in more than half of all passages, and in more than so many, names no candidates where there are rarer ones: it
/// tells passages apart by nothing, and naming them all takes a millisecond.
const COMMON_PASSAGES_MIN: usize = 10_000;
/// Passages that are scored first: enough for the bound to leave out nearly all others.
const SCORED_FIRST: usize = 1_000;

/// How words are indexed and weighed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `english` (stems, and queries without function words) or `none` (words as they are). A change makes the index anew
    /// when the database is next opened.
    pub language: Language,
    /// What a word in the title counts for, 0 to 100; it counts for every passage of the document.
    pub title_weight: f64,
    /// What a word in the headings above a passage counts for, 0 to 100.
    pub headings_weight: f64,
    /// What a word in the passage itself counts for, 0 to 100.
    pub text_weight: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { language: Language::English, title_weight: 2.0, headings_weight: 1.5, text_weight: 1.0 }
    }
}

impl Config {
    /// Checks the weights.
    pub(super) fn check(&self) -> Result<()> {
        let weights = [
            ("store.lexical.title_weight", self.title_weight),
            ("store.lexical.headings_weight", self.headings_weight),
            ("store.lexical.text_weight", self.text_weight),
        ];
        match weights.into_iter().find(|(_, weight)| !(0.0..=100.0).contains(weight)) {
            Some((field, weight)) => Err(Error::invalid(field, format!("is {weight}; 0 to 100"))),
            None => Ok(()),
        }
    }
}

/// What is known of the words' language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    /// Stems by Porter's rules; function words are left out of queries that have others.
    #[default]
    English,
    /// Nothing: every word counts as it is, but for case and accents.
    None,
}

impl Language {
    const fn tokenizer(self) -> &'static str {
        match self {
            Self::English => "porter unicode61 remove_diacritics 2",
            Self::None => "unicode61 remove_diacritics 2",
        }
    }
}

/// What to look for.
#[derive(Debug, Clone)]
pub struct LexicalQuery {
    /// The words, or the expression.
    pub text: String,
    /// Which of the two it is.
    pub syntax: LexicalSyntax,
    /// Only these passages, when given.
    pub allowed: Option<RoaringTreemap>,
    /// How many, at least 1.
    pub limit: usize,
    /// When to give up.
    pub deadline: Deadline,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LexicalFound {
    /// Passages with their BM25, best first; equal scores in rising order of number.
    pub scored: Vec<(ChunkId, f32)>,
    /// What no passage can exceed: every word of the query, again and again. For an expression, the best score found.
    pub score_max: f32,
}

/// Makes the index anew when it was not made with this language's tokenizer, in one transaction.
pub(super) fn prepare(connection: &mut Connection, language: Language) -> Result<(), Failure> {
    let wanted = language.tokenizer();
    let is_current = |connection: &Connection| -> rusqlite::Result<bool> {
        Ok(meta::lexical_tokenizer(connection)?.is_some_and(|made_with| made_with == wanted))
    };
    if is_current(connection)? {
        return Ok(());
    }
    transact(connection, |transaction| match is_current(transaction)? {
        true => Ok(()), // another process was faster
        false => Ok(rebuild(transaction, wanted)?),
    })
}

fn rebuild(transaction: &Connection, tokenizer: &str) -> rusqlite::Result<()> {
    let started = Instant::now();
    transaction.execute_batch(&format!(
        "DROP TABLE IF EXISTS passages;
        CREATE VIRTUAL TABLE passages USING fts5
            (title, headings, text, content = '', contentless_delete = 1, tokenize = '{tokenizer}');
        INSERT INTO passages (rowid, title, headings, text) SELECT id, title, headings, text FROM passage_words;
        INSERT INTO passages (passages) VALUES ('optimize');"
    ))?;
    meta::set_lexical_tokenizer(transaction, tokenizer)?;
    let passages = count(transaction)?;
    if passages > 0 {
        let elapsed_ms = started.elapsed().as_millis() as u64;
        tracing::info!(passages, tokenizer, elapsed_ms, "made the index of words anew");
    }
    Ok(())
}

/// Returns the passages that answer the query best.
///
/// # Errors
///
/// `Invalid` for an expression that FTS5 does not understand, `Deadline`.
pub(super) fn search(connection: &Connection, config: &Config, query: &LexicalQuery) -> Result<LexicalFound, Failure> {
    let snapshot = connection.unchecked_transaction()?;
    let mut found = match query.syntax {
        LexicalSyntax::Words => by_words(&snapshot, config, query)?,
        LexicalSyntax::Fts5 => by_expression(&snapshot, config, query)?,
    };
    found.scored.truncate(query.limit);
    Ok(found)
}

fn by_expression(connection: &Connection, config: &Config, query: &LexicalQuery) -> Result<LexicalFound, Failure> {
    let expression = query.text.as_str();
    // FTS5 reads up to a NUL only, and answers commands of its own that begin with an asterisk.
    if expression.contains('\0') || expression.trim_start().starts_with('*') {
        return Err(not_understood().into());
    }
    let matching = matching(connection, expression).map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::Unknown) => not_understood().into(),
        _ => Failure::from(error),
    })?;
    let allowed: Vec<_> = matching.into_iter().filter(|chunk| query.allows(*chunk)).collect();
    let scored = sorted(score(connection, config, expression, &allowed)?);
    let score_max = scored.first().map_or(0.0, |(_, score)| *score);
    Ok(LexicalFound { scored, score_max })
}

/// SQLite's own message repeats a part of the text.
fn not_understood() -> Error {
    let message = "is not an FTS5 expression; see https://sqlite.org/fts5.html#full_text_query_syntax, or leave \
        lexical_syntax unset to search for words";
    Error::invalid("query.text", message)
}

fn by_words(connection: &Connection, config: &Config, query: &LexicalQuery) -> Result<LexicalFound, Failure> {
    let words = words(connection, config.language, query)?;
    let score_max = words.iter().map(Word::bound).sum::<f64>() as f32;
    let telling = telling(words);
    let mut bounds = Vec::new();
    for word in &telling {
        bounds = with_word(bounds, word.passages.iter().copied().filter(|chunk| query.allows(*chunk)), word.bound());
    }
    let expression = telling.iter().map(|word| word.quoted.as_str()).collect::<Vec<_>>().join(" OR ");

    let first = bounds.len().min(SCORED_FIRST.max(query.limit * 2));
    if first < bounds.len() {
        bounds.select_nth_unstable_by(first, |(_, a), (_, b)| b.total_cmp(a));
    }
    let (first, others) = bounds.split_at(first);
    let mut scored = sorted(score(connection, config, &expression, &ids(first.iter()))?);
    let least = scored.get(query.limit - 1).map_or(0.0, |(_, score)| f64::from(*score));
    query.deadline.check("lexical retrieval")?;
    let hopeful = ids(others.iter().filter(|(_, bound)| *bound >= least));
    scored.extend(score(connection, config, &expression, &hopeful)?);
    Ok(LexicalFound { scored: sorted(scored), score_max })
}

/// A word of a query.
struct Word {
    /// As a term of an expression.
    quoted: String,
    /// The passages that have it, in rising order.
    passages: Vec<ChunkId>,
    /// Its inverse document frequency, as FTS5 has it.
    rarity: f64,
    /// Whether most passages have it, and many.
    common: bool,
}

impl Word {
    /// Returns the most that it brings to a passage's score.
    fn bound(&self) -> f64 {
        self.rarity * (K1 + 1.0)
    }
}

impl LexicalQuery {
    fn allows(&self, chunk: ChunkId) -> bool {
        self.allowed.as_ref().is_none_or(|allowed| allowed.contains(chunk.0))
    }
}

fn words(connection: &Connection, language: Language, query: &LexicalQuery) -> Result<Vec<Word>, Failure> {
    let all = count(connection)? as f64;
    let mut words = Vec::new();
    for term in terms::of(&query.text, language) {
        query.deadline.check("lexical retrieval")?;
        // A term is letters and digits, so there is nothing to escape.
        let quoted = format!("\"{term}\"");
        let passages = matching(connection, &quoted)?;
        let with = passages.len() as f64;
        let rarity = ((all - with + 0.5) / (with + 0.5)).ln().max(RARITY_MIN);
        let common = with > all / 2.0 && passages.len() > COMMON_PASSAGES_MIN;
        words.push(Word { quoted, passages, rarity, common });
    }
    Ok(words)
}

/// Leaves out words that no passage has and, where there are others, those that most have.
fn telling(words: Vec<Word>) -> Vec<Word> {
    let mut present: Vec<_> = words.into_iter().filter(|word| !word.passages.is_empty()).collect();
    if present.iter().any(|word| !word.common) {
        present.retain(|word| !word.common);
    }
    present
}

/// Adds a word's bound to those of its passages; both lists are in rising order of number.
fn with_word(bounds: Vec<(ChunkId, f64)>, passages: impl Iterator<Item = ChunkId>, bound: f64) -> Vec<(ChunkId, f64)> {
    let mut passages = passages.peekable();
    let mut merged = Vec::with_capacity(bounds.len() + passages.size_hint().1.unwrap_or(0));
    for (chunk, sum) in bounds {
        while let Some(before) = passages.next_if(|passage| *passage < chunk) {
            merged.push((before, bound));
        }
        let has_word = passages.next_if_eq(&chunk).is_some();
        merged.push((chunk, if has_word { sum + bound } else { sum }));
    }
    merged.extend(passages.map(|passage| (passage, bound)));
    merged
}

fn ids<'a>(bounds: impl Iterator<Item = &'a (ChunkId, f64)>) -> Vec<ChunkId> {
    bounds.map(|(chunk, _)| *chunk).collect()
}

fn sorted(mut scored: Vec<(ChunkId, f32)>) -> Vec<(ChunkId, f32)> {
    scored.sort_unstable_by(|(a, a_score), (b, b_score)| b_score.total_cmp(a_score).then(a.cmp(b)));
    scored
}

/// Returns the passages that match, in rising order of number.
fn matching(connection: &Connection, expression: &str) -> rusqlite::Result<Vec<ChunkId>> {
    let sql = "SELECT rowid FROM passages WHERE passages MATCH ?1";
    rows(connection, "SELECT passages", sql, [expression], |row| Ok(ChunkId(row.get(0)?)))
}

/// Returns the BM25 of those of these passages that match.
fn score(
    connection: &Connection,
    config: &Config,
    expression: &str,
    chunks: &[ChunkId],
) -> rusqlite::Result<Vec<(ChunkId, f32)>> {
    if chunks.is_empty() {
        return Ok(Vec::new());
    }
    // The plus keeps SQLite from asking FTS5 for one passage at a time, each a search of its own.
    let sql = "SELECT rowid, -bm25(passages, ?3, ?4, ?5) FROM passages
        WHERE passages MATCH ?1 AND +rowid IN (SELECT value FROM json_each(?2))";
    let Config { title_weight, headings_weight, text_weight, .. } = config;
    let params = params![expression, numbers(chunks), title_weight, headings_weight, text_weight];
    statement(connection, "SELECT passages", sql, |statement| {
        statement.query_map(params, |row| Ok((ChunkId(row.get(0)?), row.get(1)?)))?.collect()
    })
}

fn count(connection: &Connection) -> rusqlite::Result<usize> {
    Ok(row(connection, "SELECT chunks", "SELECT count(*) FROM chunks", [], |row| row.get(0))?.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(list: &[(u64, f64)]) -> Vec<(ChunkId, f64)> {
        list.iter().map(|(chunk, bound)| (ChunkId(*chunk), *bound)).collect()
    }

    #[test]
    fn a_passages_bound_is_the_sum_of_its_words() {
        let merged = with_word(bounds(&[(2, 1.0), (5, 1.0)]), [1, 2, 9].map(ChunkId).into_iter(), 0.5);
        assert_eq!(merged, bounds(&[(1, 0.5), (2, 1.5), (5, 1.0), (9, 0.5)]));
        assert_eq!(with_word(Vec::new(), [3].map(ChunkId).into_iter(), 2.0), bounds(&[(3, 2.0)]));
    }

    #[test]
    fn common_words_count_only_where_there_are_no_others() {
        let word =
            |quoted: &str, common| Word { quoted: quoted.to_owned(), passages: vec![ChunkId(1)], rarity: 1.0, common };
        let left = |words| telling(words).into_iter().map(|word| word.quoted).collect::<Vec<_>>();
        assert_eq!(left(vec![word("a", true), word("b", false)]), ["b"]);
        assert_eq!(left(vec![word("a", true)]), ["a"]);
        assert_eq!(left(vec![Word { passages: vec![], ..word("gone", false) }, word("a", true)]), ["a"]);
    }
}
