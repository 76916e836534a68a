//! What the commands print: people's text or JSON, on standard output.

use std::fmt::Arguments;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{Answer, Ranking};
use crate::domain::Hit;
use crate::error::{Error, Result};

/// Prints a line. A reader that has gone (`| head`) ends the program, as it does for every filter.
pub(super) fn line(text: Arguments<'_>) {
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::internal("cannot write JSON", e))?;
    line(format_args!("{text}"));
    Ok(())
}

/// Prints what a search found.
pub(super) fn answer(answer: &Answer, as_json: bool) -> Result<()> {
    if as_json {
        return json(&json!({"hits": answer.hits, "timings": milliseconds(&answer.timings)}));
    }
    if answer.hits.is_empty() {
        line(format_args!("nothing found"));
    }
    for (rank, hit) in (1..).zip(&answer.hits) {
        print_hit(rank, hit);
    }
    line(format_args!("\n{}", timing_line(&answer.timings)));
    Ok(())
}

fn print_hit(rank: usize, hit: &Hit) {
    let title = if hit.title.is_empty() { hit.id.as_str() } else { &hit.title };
    line(format_args!("{rank:>3}. {:.4}  {title}", hit.score));
    let path =
        hit.heading_path.iter().filter(|heading| **heading != hit.title).cloned().collect::<Vec<_>>().join(" › ");
    let separator = if path.is_empty() { "" } else { "  " };
    line(format_args!("             {}{separator}{path}", hit.source));
    for text in hit.text.iter().chain(hit.snippet.iter().filter(|_| hit.text.is_none())) {
        line(format_args!("             {text}"));
    }
    if let Some(e) = &hit.explanation {
        let rerank = e.rerank_score.map(|score| format!(", rerank {score:.4}")).unwrap_or_default();
        line(format_args!(
            "             rank {} (retrieved {}): dense {:.4}{rerank}; {} passages among the candidates",
            e.rank, e.dense_rank, e.dense_score, e.passages
        ));
    }
}

/// Prints what a rerank made of its candidates; `label` names one.
pub(super) fn ranking(ranking: &Ranking, as_json: bool, label: impl Fn(usize) -> String) -> Result<()> {
    if as_json {
        let result = |(index, score, id): &(usize, f32, String)| match id.as_str() {
            "" => json!({"index": index, "score": score}),
            id => json!({"index": index, "score": score, "id": id}),
        };
        let results: Vec<_> = ranking.results.iter().map(result).collect();
        return json(&json!({"results": results, "timings": milliseconds(&ranking.timings)}));
    }
    for (rank, (index, score, _)) in (1..).zip(&ranking.results) {
        line(format_args!("{rank:>3}. {score:.4}  [{index}] {}", label(*index)));
    }
    line(format_args!("\n{}", timing_line(&ranking.timings)));
    Ok(())
}

/// Returns stage → milliseconds; a stage that ran more than once is summed.
fn milliseconds(timings: &[(String, Duration)]) -> Value {
    let mut sums: Map<String, Value> = Map::new();
    for (stage, time) in timings {
        let key = format!("{stage}_ms");
        let before = sums.get(&key).and_then(Value::as_f64).unwrap_or_default();
        sums.insert(key, json!(before + time.as_secs_f64() * 1e3));
    }
    Value::Object(sums)
}

fn timing_line(timings: &[(String, Duration)]) -> String {
    let stage = |(name, time): &(String, Duration)| format!("{name} {:.2} ms", time.as_secs_f64() * 1e3);
    timings.iter().map(stage).collect::<Vec<_>>().join(" · ")
}
