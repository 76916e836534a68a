//! What the commands print: people's text or JSON, on standard output.

use std::fmt::Arguments;
use std::io::Write;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::api::{Ranking, Timed};
use crate::domain::{Explanation, Hit, RerankStep, RetrievalExplanation};
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

/// Prints what a search found; `explain` adds how the candidates were found.
pub(super) fn answer(found: &Timed, as_json: bool, explain: bool) -> Result<()> {
    let Timed { answer, timings } = found;
    if as_json {
        let mut value =
            json!({"hits": answer.hits, "rerank_steps": answer.rerank_steps, "timings": milliseconds(timings)});
        if explain {
            value["retrieval"] = json!(answer.retrieval);
        }
        return json(&value);
    }
    if answer.hits.is_empty() {
        line(format_args!("nothing found"));
    }
    for (rank, hit) in (1..).zip(&answer.hits) {
        print_hit(rank, hit);
    }
    line(format_args!(""));
    if explain {
        print_retrieval(&answer.retrieval);
    }
    print_steps(&answer.rerank_steps, explain);
    line(format_args!("{}", timing_line(timings)));
    Ok(())
}

fn print_retrieval(found: &RetrievalExplanation) {
    let mode = format!("{:?}", found.mode).to_lowercase();
    let fusion = found.fusion.map(|fusion| {
        let fusion = format!("{fusion:?}").to_lowercase();
        format!(" fused by {fusion}, dense weight {:.2}", found.dense_weight)
    });
    let allowed = found.passages_allowed.map(|allowed| format!(", {allowed} of them pass the filter"));
    line(format_args!(
        "retrieval {mode}{}: {} passages{}; {} by meaning, {} by words",
        fusion.unwrap_or_default(),
        found.passages,
        allowed.unwrap_or_default(),
        found.dense_candidates,
        found.lexical_candidates
    ));
}

/// Prints what went wrong, and the rest when `all` is asked for.
fn print_steps(steps: &[RerankStep], all: bool) {
    for step in steps {
        let (mode, covered, candidates) = (step.mode.as_str(), step.covered, step.candidates);
        match &step.degraded {
            Some(d) => line(format_args!(
                "degraded: {mode} scored {covered} of {candidates} passages ({}: {})",
                d.reason.as_str(),
                d.message
            )),
            None if all => line(format_args!("rerank {mode}: scored {covered} of {candidates} passages")),
            None => {}
        }
    }
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
    for passage in &hit.further_passages {
        let text = passage.text.as_ref().or(passage.snippet.as_ref()).map_or("", String::as_str);
        line(format_args!("     {:.4}  {text}", passage.score));
    }
    hit.explanation.iter().for_each(print_explanation);
}

fn print_explanation(e: &Explanation) {
    let list = [("dense", e.dense), ("lexical", e.lexical), ("fused", e.fused)];
    let placed = list.into_iter().filter_map(|(name, p)| {
        p.map(|p| match p.rank {
            0 => format!("{name} {:.4}", p.score),
            rank => format!("{name} {:.4} (#{rank})", p.score),
        })
    });
    let reranked = e
        .reranked
        .iter()
        .map(|p| format!("{} {:.4} (#{} → #{})", p.mode.as_str(), p.score, p.rank_before, p.rank_after));
    let way: Vec<_> = placed.chain(reranked).collect();
    let plural = if e.passages == 1 { "" } else { "s" };
    line(format_args!(
        "             {} → rank {}; {} passage{plural} among the candidates",
        way.join(" · "),
        e.rank,
        e.passages
    ));
}

/// Prints what a rerank made of its candidates; `label` names one.
pub(super) fn ranking(ranking: &Ranking, as_json: bool, label: impl Fn(usize) -> String) -> Result<()> {
    if as_json {
        let result = |(index, score, id): &(usize, f32, String)| match id.as_str() {
            "" => json!({"index": index, "score": score}),
            id => json!({"index": index, "score": score, "id": id}),
        };
        let results: Vec<_> = ranking.results.iter().map(result).collect();
        return json(
            &json!({"results": results, "rerank_steps": ranking.steps, "timings": milliseconds(&ranking.timings)}),
        );
    }
    for (rank, (index, score, _)) in (1..).zip(&ranking.results) {
        line(format_args!("{rank:>3}. {score:.4}  [{index}] {}", label(*index)));
    }
    line(format_args!(""));
    print_steps(&ranking.steps, false);
    line(format_args!("{}", timing_line(&ranking.timings)));
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
