//! JSON Lines: one document per line, as BEIR lays corpora out, read one line at a time.

use std::io::{BufRead, Read};

use serde_json::{Map, Value};

use super::fields::Fields;
use super::read;
use crate::domain::{Document, DocumentId};

/// A line's number, from 1, and its bytes or why they cannot be had.
pub(super) type Line<'a> = (u64, Result<&'a [u8], String>);

/// The lines of a file, each bounded; blank ones are skipped.
pub(super) struct Lines<R> {
    reader: R,
    line_bytes_max: u64,
    number: u64,
    buffer: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub fn new(reader: R, line_bytes_max: u64) -> Self {
        Self { reader, line_bytes_max, number: 0, buffer: Vec::new() }
    }

    /// Returns the next line; `None` at the end.
    ///
    /// # Errors
    ///
    /// The reason when the file cannot be read on.
    pub fn next(&mut self) -> Result<Option<Line<'_>>, String> {
        loop {
            self.number += 1;
            self.buffer.clear();
            let limit = self.line_bytes_max.saturating_add(1);
            let read = (&mut self.reader).take(limit).read_until(b'\n', &mut self.buffer).map_err(unreadable)?;
            if read == 0 {
                return Ok(None);
            }
            if self.buffer.len() as u64 > self.line_bytes_max && !self.buffer.ends_with(b"\n") {
                self.skip_rest()?;
                let reason = format!("is longer than {} bytes (ingest.file_bytes_max)", self.line_bytes_max);
                return Ok(Some((self.number, Err(reason))));
            }
            if !self.buffer.trim_ascii().is_empty() {
                return Ok(Some((self.number, Ok(&self.buffer))));
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), String> {
        loop {
            let available = self.reader.fill_buf().map_err(unreadable)?;
            let end = available.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(available.len(), |at| at + 1);
            if length == 0 {
                return Ok(());
            }
            self.reader.consume(length);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

fn unreadable(error: std::io::Error) -> String {
    format!("cannot be read on: {error}")
}

/// Returns the document on a line of the file called `file`: its id is the line's `_id` or `id`, its source `file#id`.
pub(super) fn document(file: &str, line: &[u8]) -> Result<Document, String> {
    let line = read::text(line)?;
    let mut given: Map<String, Value> = serde_json::from_str(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "is not a JSON object".to_owned(),
        _ => format!("is not valid JSON at column {}", error.column()),
    })?;
    let id = match take(&mut given, &["_id", "id"]) {
        Some(Value::String(id)) => id,
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err("has no `_id` or `id` (a text or a number)".into()),
    };
    let text = match take(&mut given, &["text", "content", "body"]) {
        Some(Value::String(text)) => text,
        None | Some(Value::Null) => String::new(),
        Some(_) => return Err("its `text` is not a text".into()),
    };
    let Fields { title, date, kind, domain, metadata } = Fields::take(flatten(given)?);
    let document = Document {
        source: format!("{file}#{id}"),
        id: DocumentId::parse("_id", id).map_err(|error| error.to_string())?,
        title,
        text,
        date,
        kind,
        domain,
        metadata,
    };
    read::check(&document)?;
    Ok(document)
}

fn take(given: &mut Map<String, Value>, keys: &[&str]) -> Option<Value> {
    keys.iter().find_map(|key| given.remove(*key))
}

/// Puts what is in `metadata` beside the other keys, which count more.
fn flatten(mut given: Map<String, Value>) -> Result<Map<String, Value>, String> {
    match given.remove("metadata") {
        Some(Value::Object(mut metadata)) => {
            metadata.extend(given);
            Ok(metadata)
        }
        None | Some(Value::Null) => Ok(given),
        Some(_) => Err("its `metadata` is not an object".into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read_all(text: &str, line_bytes_max: u64) -> Vec<(u64, Result<String, String>)> {
        let mut lines = Lines::new(text.as_bytes(), line_bytes_max);
        let mut all = Vec::new();
        while let Some((number, line)) = lines.next().unwrap() {
            all.push((number, line.map(|line| String::from_utf8_lossy(line).trim().to_owned())));
        }
        all
    }

    #[test]
    fn lines_are_numbered_and_blank_ones_skipped() {
        let expected = [(1, Ok("a".into())), (4, Ok("b".into()))];
        assert_eq!(read_all("a\n\n  \r\nb", 10), expected);
    }

    #[test]
    fn a_long_line_fails_and_the_next_is_read() {
        let text = format!("{}\nb\n{}", "x".repeat(100_000), "y".repeat(100_000));
        let all = read_all(&text, 10);
        assert_eq!(
            all.iter().map(|(number, line)| (*number, line.is_ok())).collect::<Vec<_>>(),
            [(1, false), (2, true), (3, false)]
        );
    }

    #[test]
    fn a_line_at_the_limit_is_read() {
        assert_eq!(read_all("12345\n", 5), [(1, Ok("12345".into()))]);
    }

    #[test]
    fn a_line_in_the_layout_of_beir_is_a_document() {
        let line = br#"{"_id": "42", "title": "A title.", "text": "Some text.", "metadata": {"url": "u"}}"#;
        let document = document("data/corpus.jsonl", line).unwrap();
        assert_eq!(document.id.as_str(), "42");
        assert_eq!(document.source, "data/corpus.jsonl#42");
        assert_eq!((document.title.as_str(), document.text.as_str()), ("A title.", "Some text."));
        assert_eq!(Value::Object(document.metadata), json!({"url": "u"}));
    }

    #[test]
    fn other_keys_are_known_or_metadata() {
        let line = br#"{"id": 7, "body": "x", "date": "2026-02-01", "type": "t", "domain": "d", "source": "s",
            "tags": "a,b", "metadata": {"n": 1, "tags": ["c"]}}"#;
        let document = document("c.jsonl", line).unwrap();
        assert_eq!(document.source, "c.jsonl#7");
        assert_eq!(document.date, Some(jiff::civil::date(2026, 2, 1)));
        assert_eq!((document.kind.as_deref(), document.domain.as_deref()), (Some("t"), Some("d")));
        assert_eq!(Value::Object(document.metadata), json!({"n": 1, "source": "s", "tags": ["a", "b"]}));
    }

    #[test]
    fn bad_lines_give_a_reason() {
        for (line, reason) in [
            (&br#"{"_id": "1", "text": "#[..], "not valid JSON"),
            (b"[1]", "not a JSON object"),
            (br#"{"text": "a"}"#, "no `_id`"),
            (br#"{"_id": "", "text": "a"}"#, "empty"),
            (br#"{"_id": "1", "text": 3}"#, "not a text"),
            (br#"{"_id": "1", "text": "a", "metadata": 3}"#, "not an object"),
            (br#"{"_id": "1"}"#, "neither text nor title"),
            (b"{\"_id\": \"1\", \"text\": \"caf\xe9\"}", "not UTF-8"),
        ] {
            let found = document("c.jsonl", line).unwrap_err();
            assert!(found.contains(reason), "{found}");
        }
    }
}
