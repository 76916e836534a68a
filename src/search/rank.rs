//! From scored passages to ranked documents; nothing here waits for anything.

use std::collections::{HashMap, HashSet};

use super::Reranked;
use crate::domain::{DocumentId, Explanation, Hit, Include, Passage, Query, limits};
use crate::engine::Scored;

/// A passage that may become a hit.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub passage: Passage,
    pub dense_score: f32,
    /// Its place after retrieval, from 1.
    pub dense_rank: u32,
    pub rerank_score: Option<f32>,
}

impl Candidate {
    fn score(&self) -> f32 {
        self.rerank_score.unwrap_or(self.dense_score)
    }
}

/// Puts passages to their scores, the first of which came at place `ranked + 1`; what the store no longer has is left out.
pub(super) fn join(scored: &[Scored], passages: Vec<Passage>, ranked: usize) -> Vec<Candidate> {
    let mut passages: HashMap<_, _> = passages.into_iter().map(|p| (p.chunk, p)).collect();
    let places = (ranked as u32 + 1..).zip(scored);
    places
        .filter_map(|(dense_rank, scored)| {
            let passage = passages.remove(&scored.id)?;
            Some(Candidate { passage, dense_score: scored.score, dense_rank, rerank_score: None })
        })
        .collect()
}

/// Returns how many of the first candidates name `documents` documents; `None` when all of them do not.
pub(super) fn naming(candidates: &[Candidate], documents: usize) -> Option<usize> {
    let mut seen = HashSet::new();
    let last = candidates.iter().position(|c| seen.insert(&c.passage.document) && seen.len() == documents)?;
    Some(last + 1)
}

/// Orders the candidates, keeps the best of each document, and makes hits of the `limit` best.
pub(super) fn cut(mut candidates: Vec<Candidate>, query: &Query) -> Vec<Hit> {
    // Ties fall to the place after retrieval, which is itself without ties.
    candidates.sort_by(|a, b| b.score().total_cmp(&a.score()).then(a.dense_rank.cmp(&b.dense_rank)));
    let mut passages: HashMap<DocumentId, u32> = HashMap::new();
    for candidate in &candidates {
        *passages.entry(candidate.passage.document.clone()).or_default() += 1;
    }
    let mut seen = HashSet::new();
    candidates.retain(|c| seen.insert(c.passage.document.clone()));
    candidates.retain(|c| query.score_min.is_none_or(|min| c.score() >= min));
    candidates.truncate(query.limit);
    (1..)
        .zip(candidates)
        .map(|(rank, c)| {
            let passages = passages.get(&c.passage.document).copied().unwrap_or(1);
            hit(c, rank, passages, query.include)
        })
        .collect()
}

fn hit(candidate: Candidate, rank: u32, passages: u32, include: Include) -> Hit {
    let score = candidate.score();
    let Candidate { passage, dense_score, dense_rank, rerank_score } = candidate;
    Hit {
        id: passage.document,
        score,
        title: passage.title,
        source: passage.source,
        date: passage.date,
        kind: passage.kind,
        domain: passage.domain,
        heading_path: passage.heading_path,
        chunk: passage.ordinal,
        snippet: include.snippet.then(|| snippet(&passage.text)),
        text: include.text.then_some(passage.text),
        metadata: passage.metadata,
        explanation: include.explain.then_some(Explanation { dense_score, dense_rank, rerank_score, rank, passages }),
    }
}

/// Returns the beginning of a text on one line, cut between words. Headings at its top are left out: the hit names them.
fn snippet(text: &str) -> String {
    let heading = |line: &&str| line.trim().is_empty() || line.starts_with('#');
    let skipped: usize = text.split_inclusive('\n').take_while(heading).map(str::len).sum();
    let text = if skipped < text.len() { &text[skipped..] } else { text };
    let mut line = String::with_capacity(limits::SNIPPET_CHARS * 2);
    let mut chars = 0;
    for word in text.split_whitespace() {
        let space = usize::from(!line.is_empty());
        chars += word.chars().count() + space;
        if chars > limits::SNIPPET_CHARS {
            let room = (limits::SNIPPET_CHARS - 1).saturating_sub(line.chars().count());
            // A single word longer than a snippet is cut inside.
            if line.is_empty() {
                line.extend(word.chars().take(room));
            }
            line.push('…');
            break;
        }
        if space == 1 {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

/// Gives each item its best text's score, best first.
pub(super) fn best_per_item(owners: &[usize], scores: &[f32], limit: usize) -> Vec<Reranked> {
    let mut best: HashMap<usize, f32> = HashMap::new();
    for (&index, &score) in owners.iter().zip(scores) {
        let entry = best.entry(index).or_insert(score);
        *entry = entry.max(score);
    }
    let mut ranked: Vec<_> = best.into_iter().map(|(index, score)| Reranked { index, score }).collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
    ranked.truncate(limit);
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Accuracy, ChunkId, Deadline, Filter, RerankMode, RetrievalMode, Target, Vector};

    fn passage(chunk: u64, document: &str) -> Passage {
        Passage {
            chunk: ChunkId(chunk),
            document: DocumentId::parse("id", document).unwrap(),
            source: document.to_owned(),
            title: String::new(),
            date: None,
            kind: None,
            domain: None,
            metadata: serde_json::Map::new(),
            ordinal: 0,
            heading_path: Vec::new(),
            text: "some text".to_owned(),
        }
    }

    fn query(limit: usize) -> Query {
        Query {
            target: Target::Vector(Vector::normalise("v", vec![1.0]).unwrap().unwrap()),
            limit,
            candidates: None,
            score_min: None,
            filter: Filter::default(),
            retrieval: RetrievalMode::Dense,
            accuracy: Accuracy::Default,
            rerank: RerankMode::None,
            include: Include { explain: true, ..Include::default() },
            deadline: Deadline::NONE,
        }
    }

    fn candidates(list: &[(u64, &str, f32)]) -> Vec<Candidate> {
        let scored: Vec<_> = list.iter().map(|(id, _, score)| Scored { id: ChunkId(*id), score: *score }).collect();
        join(&scored, list.iter().map(|(id, document, _)| passage(*id, document)).collect(), 0)
    }

    #[test]
    fn a_document_appears_once_by_its_best_passage() {
        let hits = cut(candidates(&[(1, "a", 0.9), (2, "a", 0.8), (3, "b", 0.7)]), &query(10));
        let ids: Vec<_> = hits.iter().map(|h| (h.id.as_str(), h.score)).collect();
        assert_eq!(ids, [("a", 0.9), ("b", 0.7)]);
        assert_eq!(hits[0].explanation.as_ref().map(|e| e.passages), Some(2));
    }

    #[test]
    fn a_list_is_as_long_as_it_takes_to_name_enough_documents() {
        let list = candidates(&[(1, "a", 0.9), (2, "a", 0.8), (3, "b", 0.7), (4, "c", 0.6)]);
        assert_eq!(naming(&list, 2), Some(3));
        assert_eq!(naming(&list, 4), None);
    }

    #[test]
    fn a_rerank_score_decides_the_order() {
        let mut list = candidates(&[(1, "a", 0.9), (2, "b", 0.8)]);
        list[0].rerank_score = Some(0.1);
        list[1].rerank_score = Some(0.2);
        let hits = cut(list, &query(10));
        assert_eq!(hits[0].id.as_str(), "b");
        assert_eq!(hits[0].explanation.as_ref().map(|e| (e.dense_rank, e.rank)), Some((2, 1)));
    }

    #[test]
    fn equal_scores_keep_the_order_of_retrieval() {
        let hits = cut(candidates(&[(7, "x", 0.5), (3, "y", 0.5), (5, "z", 0.5)]), &query(2));
        assert_eq!(hits.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), ["x", "y"]);
    }

    #[test]
    fn hits_under_the_minimum_are_left_out() {
        let query = Query { score_min: Some(0.8), ..query(10) };
        assert_eq!(cut(candidates(&[(1, "a", 0.8), (2, "b", 0.79)]), &query).len(), 1);
    }

    #[test]
    fn what_the_store_lost_meanwhile_is_left_out() {
        let scored = [Scored { id: ChunkId(1), score: 1.0 }, Scored { id: ChunkId(2), score: 0.5 }];
        let list = join(&scored, vec![passage(2, "b")], 10);
        assert_eq!(list.len(), 1);
        assert_eq!(list[0].dense_rank, 12);
    }

    #[test]
    fn a_snippet_is_one_line_cut_between_words() {
        assert_eq!(snippet("# Title\n\nfirst  words\nnext"), "first words next");
        assert_eq!(snippet("# Only a title"), "# Only a title");
        let long = snippet(&"word ".repeat(100));
        assert!(long.ends_with("word…"), "{long}");
        assert!(long.chars().count() <= limits::SNIPPET_CHARS);
        assert_eq!(snippet(&"é".repeat(1000)).chars().count(), limits::SNIPPET_CHARS);
    }

    #[test]
    fn an_item_counts_by_its_best_text() {
        let ranked = best_per_item(&[0, 1, 1, 2], &[0.5, 0.1, 0.9, 0.5], 10);
        assert_eq!(ranked.iter().map(|r| r.index).collect::<Vec<_>>(), [1, 0, 2]);
        assert_eq!(best_per_item(&[0, 1], &[0.1, 0.2], 1).len(), 1);
    }
}
