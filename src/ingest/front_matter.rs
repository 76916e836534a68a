//! The head of a Markdown file: YAML between `---` lines or TOML between `+++` lines.

use serde_json::{Map, Value};

use crate::domain::limits;

/// Splits a text into the fields of its front matter and its body. Without front matter: no fields and the whole text.
///
/// A `---` that opens a block without fields (a thematic break) is part of the text.
///
/// # Errors
///
/// The reason, when front matter is malformed, not closed or beyond [`limits::METADATA_BYTES_MAX`].
pub(super) fn split(text: &str) -> Result<(Map<String, Value>, &str), String> {
    let Some(fence) = ["---", "+++"].into_iter().find(|fence| is_fence(text.lines().next().unwrap_or_default(), fence))
    else {
        return Ok((Map::new(), text));
    };
    let Some((head, body)) = between(text, fence) else {
        return match looks_like_fields(text) {
            true => Err(format!("front matter opened on line 1 is not closed; end it with a line {fence:?}")),
            false => Ok((Map::new(), text)),
        };
    };
    if head.len() > limits::METADATA_BYTES_MAX {
        return Err(format!("front matter has {} bytes; at most {}", head.len(), limits::METADATA_BYTES_MAX));
    }
    match if fence == "---" { yaml(head)? } else { Value::Object(toml(head)?) } {
        Value::Object(fields) => Ok((fields, body)),
        Value::Null => Ok((Map::new(), body)),
        _ => Ok((Map::new(), text)),
    }
}

fn is_fence(line: &str, fence: &str) -> bool {
    line.trim_end() == fence
}

/// Returns what stands between the first line and the next fence, and what follows that.
fn between<'a>(text: &'a str, fence: &str) -> Option<(&'a str, &'a str)> {
    let start = text.find('\n')? + 1;
    let mut at = start;
    for line in text[start..].split_inclusive('\n') {
        // YAML's own end of a document, `...`, closes too.
        if is_fence(line, fence) || (fence == "---" && is_fence(line, "...")) {
            return Some((&text[start..at], &text[at + line.len()..]));
        }
        at += line.len();
    }
    None
}

/// Whether the second line begins like `key:` or `key =`.
fn looks_like_fields(text: &str) -> bool {
    let line = text.lines().nth(1).unwrap_or_default();
    let key = line.trim_start_matches(|c: char| c.is_alphanumeric() || "_-".contains(c));
    key.len() < line.len() && (key.starts_with(": ") || key == ":" || key.trim_start().starts_with('='))
}

/// Parses YAML 1.2, where `y` and `no` are texts, within serde-saphyr's default budget, which bounds depth, nodes and what
/// aliases expand to.
fn yaml(head: &str) -> Result<Value, String> {
    if head.trim().is_empty() {
        return Ok(Value::Null);
    }
    let options = serde_saphyr::options! { strict_booleans: true };
    // With a line in place of the fence, what is said of lines is true of the file.
    serde_saphyr::from_str_with_options(&format!("\n{head}"), options).map_err(|error| {
        let reason = error.without_snippet().to_string();
        format!("front matter is not valid YAML: {}", reason.lines().next().unwrap_or_default())
    })
}

fn toml(head: &str) -> Result<Map<String, Value>, String> {
    let table: toml::Table = head.parse().map_err(|error: toml::de::Error| {
        let before = error.span().map_or(0, |span| head[..head.floor_char_boundary(span.start)].matches('\n').count());
        format!("front matter is not valid TOML on line {}: {}", before + 2, error.message())
    })?;
    Ok(table.into_iter().map(|(key, value)| (key, json(value))).collect())
}

fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => Value::String(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => Value::from(number),
        toml::Value::Boolean(truth) => Value::Bool(truth),
        toml::Value::Datetime(time) => Value::String(time.to_string()),
        toml::Value::Array(values) => values.into_iter().map(json).collect(),
        toml::Value::Table(table) => Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(text: &str) -> Value {
        Value::Object(split(text).unwrap().0)
    }

    #[test]
    fn yaml_and_toml_give_fields_and_body() {
        for text in [
            "---\ntitle: A b\ntags: [x, y]\ndate: 2026-02-01\nn: 3\n---\nbody\n",
            "---\r\ntitle: \"A b\"\r\ntags:\r\n  - x\r\n  - y\r\ndate: 2026-02-01\r\nn: 3\r\n---\r\nbody\n",
            "---  \ntitle: A b\ntags: [x, y]\ndate: \"2026-02-01\"\nn: 3\n...\nbody\n",
            "+++\ntitle = \"A b\"\ntags = [\"x\", \"y\"]\ndate = 2026-02-01\nn = 3\n+++\nbody\n",
        ] {
            let (found, body) = split(text).unwrap();
            let expected = json!({"title": "A b", "tags": ["x", "y"], "date": "2026-02-01", "n": 3});
            assert_eq!((Value::Object(found), body), (expected, "body\n"), "{text}");
        }
    }

    #[test]
    fn a_text_without_front_matter_is_all_body() {
        for text in
            ["", "# Title\n", "----\na\n----\n", "---\n\nA break.\n\n---\nB\n", "---\nno end", " ---\na: 1\n---\n"]
        {
            assert_eq!(split(text).unwrap(), (Map::new(), text), "{text:?}");
        }
    }

    #[test]
    fn empty_front_matter_has_no_fields() {
        assert_eq!(split("---\n---\nbody").unwrap(), (Map::new(), "body"));
        assert_eq!(split("---\n# only a comment\n---\nbody").unwrap(), (Map::new(), "body"));
    }

    #[test]
    fn malformed_front_matter_names_its_line() {
        for (text, line) in [
            ("---\ntitle: a\nb: [1, 2\n---\nbody\n", "line "),
            ("---\ntitle: a: b: c\n---\nbody\n", "line 2"),
            ("+++\na = 1\nb = \n+++\nbody\n", "line 3"),
            ("---\ntitle: never closed\nbody\n", "not closed"),
        ] {
            let reason = split(text).unwrap_err();
            assert!(reason.contains(line), "{reason}");
        }
    }

    #[test]
    fn a_bomb_of_aliases_is_refused() {
        let mut text = String::from("---\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let before = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 10].join(", ")));
        }
        text.push_str("---\nbody\n");
        assert!(split(&text).is_err());
    }

    #[test]
    fn deep_nesting_is_refused() {
        let text = format!("---\na: {}{}\n---\n", "[".repeat(10_000), "]".repeat(10_000));
        assert!(split(&text).is_err());
    }

    #[test]
    fn huge_front_matter_is_refused() {
        assert!(split(&format!("---\na: {}\n---\n", "x".repeat(70_000))).unwrap_err().contains("at most"));
    }

    #[test]
    fn nested_fields_stay_nested() {
        assert_eq!(fields("---\na:\n  b: [1, {c: true}]\n---\n"), json!({"a": {"b": [1, {"c": true}]}}));
    }
}
