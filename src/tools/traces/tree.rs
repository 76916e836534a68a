//! Spans as an indented tree with times and attributes.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

/// Characters of an attribute's value that are shown.
const VALUE_CHARS: usize = 60;

/// Returns the spans of one trace as a tree, children in order of their start.
pub(super) fn draw(spans: &[Span]) -> String {
    let known: HashSet<_> = spans.iter().map(|span| &span.span_id).collect();
    let mut children: HashMap<Option<&Vec<u8>>, Vec<&Span>> = HashMap::new();
    for span in spans {
        // A parent that is not here (the caller's) makes its child a root.
        let parent = known.contains(&span.parent_span_id).then_some(&span.parent_span_id);
        children.entry(parent).or_default().push(span);
    }
    children.values_mut().for_each(|list| list.sort_by_key(|span| span.start_time_unix_nano));
    let mut text = format!("trace {}\n", hex(spans.first().map_or(&[], |span| &span.trace_id)));
    let mut open: Vec<(&Span, usize)> = roots(&children, None, 0);
    while let Some((span, depth)) = open.pop() {
        let _ = writeln!(text, "{}{}", "  ".repeat(depth + 1), line(span));
        open.extend(roots(&children, Some(&span.span_id), depth + 1));
    }
    text
}

/// Returns the children of one span, last first, to be taken from the end.
fn roots<'a>(
    children: &HashMap<Option<&'a Vec<u8>>, Vec<&'a Span>>,
    parent: Option<&'a Vec<u8>>,
    depth: usize,
) -> Vec<(&'a Span, usize)> {
    children.get(&parent).into_iter().flatten().rev().map(|span| (*span, depth)).collect()
}

fn line(span: &Span) -> String {
    let nanos = span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano);
    let attributes = span.attributes.iter().filter_map(|attribute| {
        let value = shown(attribute.value.as_ref()?.value.as_ref()?)?;
        Some(format!("{}={value}", attribute.key))
    });
    let attributes: Vec<_> = attributes.collect();
    format!("{} {:.3} ms  {}", span.name, nanos as f64 / 1e6, attributes.join(" "))
}

fn shown(value: &Value) -> Option<String> {
    match value {
        Value::StringValue(text) => {
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let cut: String = line.chars().take(VALUE_CHARS).collect();
            Some(if cut.len() < line.len() { format!("\"{cut}…\"") } else { format!("\"{cut}\"") })
        }
        Value::BoolValue(truth) => Some(truth.to_string()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::DoubleValue(number) => Some(number.to_string()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(id: u8, parent: u8, name: &str, start: u64) -> Span {
        Span {
            trace_id: vec![0xab; 16],
            span_id: vec![id; 8],
            parent_span_id: vec![parent; 8],
            name: name.to_owned(),
            start_time_unix_nano: start,
            end_time_unix_nano: start + 1_500_000,
            ..Span::default()
        }
    }

    #[test]
    fn children_stand_under_their_parent_in_order_of_start() {
        let spans = [span(3, 1, "late", 9), span(2, 1, "early", 5), span(1, 99, "root", 1), span(4, 2, "leaf", 6)];
        let names: Vec<_> = draw(&spans).lines().skip(1).map(|l| l.split(" 1.5").next().unwrap().to_owned()).collect();
        assert_eq!(names, ["  root", "    early", "      leaf", "    late"]);
    }
}
