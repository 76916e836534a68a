//! One file's bytes → one document, or the reason why not.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::fields::{Fields, date_of_name};
use super::{front_matter, markdown};
use crate::domain::{Document, DocumentId, limits};

/// Returns a regular file's bytes when there are at most `bytes_max`; looks at its size before it reads.
pub(super) fn bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, String> {
    let file = open(path)?;
    let length = file.metadata().map_err(|error| format!("cannot be read: {error}"))?.len();
    let mut bytes = Vec::new();
    if length <= bytes_max {
        // One byte more shows a file that grew meanwhile.
        file.take(bytes_max + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    }
    let length = length.max(bytes.len() as u64);
    match length <= bytes_max {
        true => Ok(bytes),
        false => Err(format!("has {length} bytes; at most {bytes_max}: split it, or raise ingest.file_bytes_max")),
    }
}

/// Opens a regular file: a pipe or a device would block.
pub(super) fn open(path: &Path) -> Result<File, String> {
    let metadata = std::fs::metadata(path).map_err(|error| format!("cannot be read: {error}"))?;
    if !metadata.is_file() {
        return Err("is not a regular file; only files with text can be ingested".into());
    }
    File::open(path).map_err(|error| format!("cannot be opened: {error}"))
}

/// Returns the document that a file with this source and content is.
pub(super) fn document(source: &str, bytes: &[u8]) -> Result<Document, String> {
    let text = text(bytes)?;
    let (fields, body) = front_matter::split(text)?;
    let Fields { title, date, kind, domain, metadata } = Fields::take(fields);
    if title.is_empty() && body.trim().is_empty() {
        return Err("is empty; write something, or remove it".into());
    }
    let stem = stem(source);
    let title = Some(title).filter(|title| !title.is_empty()).or_else(|| markdown::first_heading(body));
    let document = Document {
        id: DocumentId::parse("path", source).map_err(|error| error.to_string())?,
        source: source.to_owned(),
        title: title.unwrap_or_else(|| stem.to_owned()),
        text: body.to_owned(),
        date: date.or_else(|| date_of_name(stem)),
        kind,
        domain,
        metadata,
    };
    check(&document)?;
    Ok(document)
}

/// Checks what must hold of every document, wherever it comes from.
pub(super) fn check(document: &Document) -> Result<(), String> {
    let metadata_bytes = serde_json::to_string(&document.metadata).map_or(usize::MAX, |json| json.len());
    let bounded = [
        ("text", document.text.len(), limits::DOCUMENT_BYTES_MAX),
        ("title", document.title.len(), limits::TEXT_BYTES_MAX),
        ("source", document.source.len(), limits::ID_BYTES_MAX),
        ("metadata", metadata_bytes, limits::METADATA_BYTES_MAX),
    ];
    if let Some((field, bytes, max)) = bounded.into_iter().find(|(_, bytes, max)| bytes > max) {
        return Err(format!("{field} has {bytes} bytes; at most {max}"));
    }
    if [&document.text, &document.title, &document.source].into_iter().any(|field| field.contains('\0')) {
        return Err("contains a NUL byte; only text can be ingested".into());
    }
    if document.text.trim().is_empty() && document.title.trim().is_empty() {
        return Err("has neither text nor title; one of them is needed".into());
    }
    Ok(())
}

/// Returns the name of a source's file without folder and extension.
pub(super) fn stem(source: &str) -> &str {
    let name = source.rsplit('/').next().unwrap_or(source);
    name.rsplit_once('.').map_or(name, |(stem, _)| if stem.is_empty() { name } else { stem })
}

/// Returns bytes as text, without a byte order mark.
pub(super) fn text(bytes: &[u8]) -> Result<&str, String> {
    // Before UTF-8, so that a picture is called what it is.
    if let Some(at) = bytes.iter().position(|byte| *byte == 0) {
        return Err(format!("has a NUL byte at {at}; it looks binary, only text can be ingested"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        format!("is not UTF-8 at byte {}; convert it, as with: iconv -f latin1 -t utf-8", error.valid_up_to())
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_title_is_given_or_the_first_heading_or_the_name() {
        for (content, title) in [
            ("---\ntitle: Given\n---\n# Heading\n", "Given"),
            ("\n# Heading\n", "Heading"),
            ("words", "2026-02-01-name.of"),
            ("\u{feff}---\ntitle: After a mark\n---\n", "After a mark"),
        ] {
            assert_eq!(document("a/2026-02-01-name.of.md", content.as_bytes()).unwrap().title, title);
        }
    }

    #[test]
    fn the_day_is_given_or_begins_the_name() {
        let of = |content: &str| document("a/2026-02-01-b.md", content.as_bytes()).unwrap().date;
        assert_eq!(of("words"), Some(jiff::civil::date(2026, 2, 1)));
        assert_eq!(of("---\ndate: 2025-01-01\n---\nwords"), Some(jiff::civil::date(2025, 1, 1)));
    }

    #[test]
    fn unusable_content_gives_a_reason() {
        for (content, reason) in [
            (&b""[..], "empty"),
            (b" \n\t\n", "empty"),
            (b"---\ntags: [a]\n---\n", "empty"),
            (b"caf\xe9", "not UTF-8 at byte 3"),
            (b"\x89PNG\0", "NUL byte at 4"),
            (b"---\na: [\n---\nx", "front matter"),
        ] {
            assert!(document("a.md", content).unwrap_err().contains(reason));
        }
    }

    #[test]
    fn a_large_file_is_refused_unread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.md");
        File::create(&path).unwrap().set_len(100 << 20).unwrap();
        assert!(bytes(&path, 16 << 20).unwrap_err().contains("ingest.file_bytes_max"));
        assert_eq!(bytes(&path, 100 << 20).unwrap().len(), 100 << 20);
    }

    #[test]
    fn what_is_no_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        assert!(bytes(folder.path(), 1).unwrap_err().contains("regular"));
        assert!(bytes(&folder.path().join("none.md"), 1).unwrap_err().contains("cannot be read"));
    }

    #[test]
    fn stems_lose_folder_and_extension() {
        for (source, expected) in [("a/b.md", "b"), ("b", "b"), ("a.b/c", "c"), ("a/.b", ".b"), ("b.c.md", "b.c")] {
            assert_eq!(stem(source), expected);
        }
    }
}
