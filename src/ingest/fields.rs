//! What front matter and JSON Lines say of a document, as the document's own fields.

use jiff::civil::Date;
use serde_json::{Map, Value};

/// Keys that say a document's day, the first that can be read as one counts.
const DATE_KEYS: [&str; 3] = ["date", "created_at", "published"];
/// Forms of a day beside `YYYY-MM-DD…`.
const DATE_FORMS: [&str; 4] = ["%Y/%m/%d", "%B %d, %Y", "%d %B %Y", "%b %d, %Y"];

/// The fields that every document may have.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Fields {
    pub title: String,
    pub date: Option<Date>,
    pub kind: Option<String>,
    pub domain: Option<String>,
    /// The rest, `tags` and `aliases` as lists of texts.
    pub metadata: Map<String, Value>,
}

impl Fields {
    /// Takes the known keys out of `given`; what cannot be read as what its key says stays in the metadata.
    pub fn take(mut given: Map<String, Value>) -> Self {
        let date = take_date(&mut given);
        let title = take_text(&mut given, "title").unwrap_or_default();
        let kind = take_text(&mut given, "type");
        let domain = take_text(&mut given, "domain");
        list(&mut given, "tags");
        list(&mut given, "aliases");
        Self { title, date, kind, domain, metadata: given }
    }
}

/// Returns the day that a text begins with or is: `2026-02-01`, `2026-02-01T10:00:00Z`, `February 1, 2026`.
pub(super) fn parse_date(text: &str) -> Option<Date> {
    let text = text.trim();
    let day = text.get(..10).and_then(|day| day.parse::<Date>().ok());
    let rest = text.get(10..).unwrap_or_default();
    if day.is_some() && (rest.is_empty() || rest.starts_with(['T', 't', ' '])) {
        return day;
    }
    DATE_FORMS.iter().find_map(|form| Date::strptime(form, text).ok())
}

/// Returns the day that a file name begins with: `2026-02-01-notes.md`.
pub(super) fn date_of_name(stem: &str) -> Option<Date> {
    let day = stem.get(..10)?.parse().ok()?;
    let digit_follows = stem[10..].starts_with(|c: char| c.is_ascii_digit());
    (!digit_follows).then_some(day)
}

fn take_date(given: &mut Map<String, Value>) -> Option<Date> {
    let (key, date) = DATE_KEYS.iter().find_map(|key| Some((*key, parse_date(given.get(*key)?.as_str()?)?)))?;
    if key == "date" {
        given.remove(key);
    }
    Some(date)
}

fn take_text(given: &mut Map<String, Value>, key: &str) -> Option<String> {
    let text = text(given.get(key)?)?;
    given.remove(key);
    (!text.is_empty()).then_some(text)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// Makes a list of texts out of a list of scalars or of one text with commas.
fn list(given: &mut Map<String, Value>, key: &str) {
    let texts: Vec<String> = match given.get(key) {
        Some(Value::String(texts)) => texts.split(',').map(|text| text.trim().to_owned()).collect(),
        Some(Value::Array(values)) => values.iter().filter_map(text).collect(),
        _ => return,
    };
    let named = texts.into_iter().map(|text| text.trim_start_matches('#').to_owned()).filter(|text| !text.is_empty());
    given.insert(key.to_owned(), named.map(Value::String).collect());
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use serde_json::json;

    use super::*;

    fn take(value: Value) -> Fields {
        Fields::take(value.as_object().unwrap().clone())
    }

    #[test]
    fn known_keys_become_fields_and_the_rest_metadata() {
        let fields = take(json!({
            "title": " A ", "date": "2026-02-01", "type": "guide", "domain": "db", "status": "draft", "n": 1
        }));
        assert_eq!(fields.title, "A");
        assert_eq!(fields.date, Some(date(2026, 2, 1)));
        assert_eq!((fields.kind.as_deref(), fields.domain.as_deref()), (Some("guide"), Some("db")));
        assert_eq!(Value::Object(fields.metadata), json!({"status": "draft", "n": 1}));
    }

    #[test]
    fn tags_and_aliases_become_lists_of_texts() {
        for tags in [json!(["a", "#b", 3]), json!("a, #b,3"), json!(" a ,b , 3,")] {
            assert_eq!(take(json!({"tags": tags})).metadata["tags"], json!(["a", "b", "3"]));
        }
        assert_eq!(take(json!({"aliases": "One"})).metadata["aliases"], json!(["One"]));
    }

    #[test]
    fn days_are_read_in_the_usual_forms() {
        for text in [
            "2026-02-01",
            "2026-02-01T10:00:00Z",
            "2026-02-01 10:00:00 +0100",
            "2026/02/01",
            "February 1, 2026",
            "1 February 2026",
            "Feb 1, 2026",
        ] {
            assert_eq!(parse_date(text), Some(date(2026, 2, 1)), "{text}");
        }
        for text in ["", "soon", "2026-02-30", "2026-02-011", "2026", "é2026-02-0"] {
            assert_eq!(parse_date(text), None, "{text}");
        }
    }

    #[test]
    fn an_unreadable_date_stays_in_the_metadata() {
        let fields = take(json!({"date": "soon", "created_at": "2025-03-04T00:00:00Z"}));
        assert_eq!(fields.date, Some(date(2025, 3, 4)));
        assert_eq!(fields.metadata["date"], "soon");
        assert!(fields.metadata.contains_key("created_at"));
    }

    #[test]
    fn a_file_name_may_begin_with_a_day() {
        assert_eq!(date_of_name("2026-02-01-notes"), Some(date(2026, 2, 1)));
        assert_eq!(date_of_name("2026-02-01"), Some(date(2026, 2, 1)));
        assert_eq!(date_of_name("2026-02-011"), None);
        assert_eq!(date_of_name("notes"), None);
    }

    #[test]
    fn what_a_key_cannot_hold_stays_metadata() {
        let fields = take(json!({"title": ["a"], "type": null, "date": 2026, "tags": {"a": 1}}));
        assert_eq!(fields.title, "");
        assert_eq!(
            Value::Object(fields.metadata),
            json!({"title": ["a"], "type": null, "date": 2026, "tags": {"a": 1}})
        );
    }
}
