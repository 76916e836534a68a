//! Reports as tables for people: on the terminal and in Markdown.

use std::fmt::Write as _;

use super::measure::Figures;
use super::report::Report;
use super::significance::Difference;
use crate::telemetry::Stage;

/// How a table is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Columns parted by spaces.
    Terminal,
    /// Columns parted by bars.
    Markdown,
}

impl Report {
    /// Returns the report as text: where and what was measured, the figures, the times, what was amiss.
    pub fn text(&self, layout: Layout) -> String {
        let mut text = self.heading();
        let (figures, times) = (self.figures(), self.times());
        for rows in [figures, times].into_iter().filter(|rows| rows.len() > 1) {
            text += "\n";
            text += &drawn(&rows, layout);
        }
        let notes = self.notes();
        if !notes.is_empty() {
            text += "\n";
        }
        for note in notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    fn heading(&self) -> String {
        let counts = &self.corpus.counts;
        format!(
            "{}: {} documents in {} passages, {} queries with {} relevant documents. amalfa {}, model {}, {} ({} cores). \
             Rankings to depth {}; rerankers are given {} passages.\n",
            counts.name,
            counts.documents,
            self.corpus.passages,
            counts.queries,
            counts.relevant,
            self.machine.version,
            self.model.name,
            self.machine.cpu,
            self.machine.cores,
            self.settings.depth,
            self.settings.candidates,
        )
    }

    fn figures(&self) -> Vec<Vec<String>> {
        let against = format!("± nDCG@10 to {}", self.baseline);
        let mut head = vec!["", "nDCG@10", "Recall@10", "Recall@100", "MRR@10", "MAP", &against, "95 % interval", "p"];
        let earlier = self.combinations.iter().any(|figures| figures.against_earlier.is_some());
        if earlier {
            head.extend(["± nDCG@10 to earlier", "95 % interval", "p"]);
        }
        let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
        for figures in &self.combinations {
            let m = &figures.measures;
            let mut row = vec![figures.combination.name.clone()];
            row.extend([m.ndcg_at_10, m.recall_at_10, m.recall_at_100, m.mrr_at_10, m.map].map(|f| format!("{f:.4}")));
            row.extend(worth(figures.against_baseline.as_ref()));
            if earlier {
                row.extend(worth(figures.against_earlier.as_ref()));
            }
            rows.push(row);
        }
        rows
    }

    fn times(&self) -> Vec<Vec<String>> {
        let ran = |stage: &Stage| self.combinations.iter().any(|f| f.stages_mean_ms.contains_key(stage.as_str()));
        let stages: Vec<&str> = Stage::ALL.iter().filter(|stage| ran(stage)).map(|stage| stage.as_str()).collect();
        let mut head: Vec<String> = ["", "p50 ms", "p99 ms", "searches/s"].map(str::to_owned).to_vec();
        head.extend(stages.iter().map(|stage| format!("{stage} ms")));
        head.extend(["covered", "degraded"].map(str::to_owned));
        let mut rows = vec![head];
        rows.extend(self.combinations.iter().map(|figures| times_row(figures, &stages)));
        rows
    }

    /// Returns what a reader of the figures has to know, in sentences.
    fn notes(&self) -> Vec<String> {
        let counts = &self.corpus.counts;
        let counted = [
            (counts.queries_unjudged, "queries are left out: nothing is judged for them"),
            (counts.queries_without_relevant, "queries are left out: nothing judged for them is relevant"),
            (counts.judgements_without_document, "judgements are of documents that are not in corpus.jsonl: not found"),
            (counts.judgements_without_query, "judgements are of queries that are not in queries.jsonl: not counted"),
        ];
        let mut notes: Vec<_> =
            counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}.")).collect();
        if let Some(first) = &self.corpus.first_failure {
            let failed = self.corpus.documents_failed;
            notes.push(format!("{failed} documents could not be indexed and are not found; the first: {first}."));
        }
        for figures in self.combinations.iter().filter(|figures| figures.degraded > 0) {
            let reasons = figures.degraded_reasons.iter().map(|(reason, count)| format!("{reason} {count}"));
            let reasons = reasons.collect::<Vec<_>>().join(", ");
            notes.push(format!("{}: {} searches degraded ({reasons}).", figures.combination.name, figures.degraded));
        }
        notes.extend(self.failed.iter().map(|(name, reason)| format!("{name} could not be run: {reason}")));
        notes
    }
}

/// Returns differences as a table, each with the name of the combination that differs.
pub fn differences(all: &[(String, Difference)], layout: Layout) -> String {
    let head = ["", "compared to", "queries", "better", "worse", "± nDCG@10", "95 % interval", "p"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (name, difference) in all {
        let Difference { to, queries, better, worse, .. } = difference;
        let mut row = vec![name.clone(), to.clone()];
        row.extend([queries, better, worse].map(ToString::to_string));
        row.extend(worth(Some(difference)));
        rows.push(row);
    }
    drawn(&rows, layout)
}

fn times_row(figures: &Figures, stages: &[&str]) -> Vec<String> {
    let latency = figures.latency;
    let mut row = vec![figures.combination.name.clone()];
    row.extend([latency.p50_ms, latency.p99_ms].map(milliseconds));
    row.push(format!("{:.1}", figures.searches_per_second));
    row.extend(stages.iter().map(|stage| figures.stages_mean_ms.get(stage).copied().map_or_else(none, milliseconds)));
    row.push(figures.coverage.map_or_else(none, |share| format!("{:.1} %", share * 100.0)));
    row.push(figures.degraded.to_string());
    row
}

/// Returns the cells of a difference: itself, its interval, its p-value.
fn worth(difference: Option<&Difference>) -> [String; 3] {
    let Some(Difference { ndcg_at_10, interval: [low, high], p_value, .. }) = difference else {
        return [none(), none(), none()];
    };
    let p_value = if *p_value < 0.001 { "< .001".to_owned() } else { format!("{p_value:.3}") };
    [format!("{ndcg_at_10:+.4}"), format!("{low:+.4} … {high:+.4}"), p_value]
}

fn milliseconds(time: f64) -> String {
    if time < 10.0 { format!("{time:.2}") } else { format!("{time:.0}") }
}

fn none() -> String {
    "–".to_owned()
}

/// Draws rows of equal length, the first of which is the head; the first column is flush left, the others right.
fn drawn(rows: &[Vec<String>], layout: Layout) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for (at, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, width))| match (layout, column) {
            (Layout::Markdown, _) => cell.clone(),
            (Layout::Terminal, 0) => format!("{cell:<width$}"),
            (Layout::Terminal, _) => format!("{cell:>width$}"),
        });
        let cells: Vec<_> = cells.collect();
        let _ = match layout {
            Layout::Terminal => writeln!(text, "{}", cells.join("  ").trim_end()),
            Layout::Markdown => writeln!(text, "| {} |", cells.join(" | ")),
        };
        if layout == Layout::Markdown && at == 0 {
            let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.saturating_sub(1)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [["", "p50 ms"], ["dense", "1.23"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(drawn(&rows, Layout::Terminal), "       p50 ms\ndense    1.23\n");
        assert_eq!(drawn(&rows, Layout::Markdown), "|  | p50 ms |\n|---|---:|\n| dense | 1.23 |\n");
    }

    #[test]
    fn a_difference_is_shown_with_its_worth() {
        let difference = Difference::of("dense", &[(0.5, 0.6), (0.5, 0.6)]);
        let text = differences(&[("hybrid".to_owned(), difference)], Layout::Markdown);
        assert!(text.contains("| hybrid | dense | 2 | 2 | 0 | +0.1000 | +0.1000 … +0.1000 | < .001 |"), "{text}");
        assert_eq!(worth(None), [none(), none(), none()]);
    }
}
