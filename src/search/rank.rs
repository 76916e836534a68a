//! From ranked passages to ranked documents; nothing here waits for anything.

use std::collections::{HashMap, HashSet};

use super::candidate::Candidate;
use crate::domain::{DocumentId, Explanation, FurtherPassage, Hit, Include, Query, limits};

/// Returns how many of the first passages, given by their documents, name `limit` documents; `None` when all of them do
/// not. A passage that is gone names none.
pub(super) fn naming<'a>(mut documents: impl Iterator<Item = Option<&'a DocumentId>>, limit: usize) -> Option<usize> {
    let mut seen = HashSet::new();
    let last = documents.position(|id| id.is_some_and(|id| seen.insert(id) && seen.len() == limit))?;
    Some(last + 1)
}

/// Makes hits of the candidates, one per document by the first of its passages, `limit` at most. Scores never rise down the
/// list: what one step scored may follow what another did.
pub(super) fn cut(candidates: Vec<Candidate>, query: &Query) -> Vec<Hit> {
    let mut least = 1.0f32;
    let mut hits = Vec::new();
    for (best, others) in by_document(candidates) {
        least = least.min(best.score);
        if hits.len() == query.limit || query.score_min.is_some_and(|min| least < min) {
            break;
        }
        hits.push(hit(Candidate { score: least, ..best }, others, query.include));
    }
    for (rank, hit) in (1..).zip(&mut hits) {
        hit.explanation.iter_mut().for_each(|explanation| explanation.rank = rank);
    }
    hits
}

/// Returns each document's first candidate and its others, in the order of the first.
fn by_document(candidates: Vec<Candidate>) -> Vec<(Candidate, Vec<Candidate>)> {
    let mut places: HashMap<DocumentId, usize> = HashMap::new();
    let mut documents: Vec<(Candidate, Vec<Candidate>)> = Vec::new();
    for candidate in candidates {
        match places.get(&candidate.passage.document) {
            Some(place) => documents[*place].1.push(candidate),
            None => {
                places.insert(candidate.passage.document.clone(), documents.len());
                documents.push((candidate, Vec::new()));
            }
        }
    }
    documents
}

fn hit(best: Candidate, others: Vec<Candidate>, include: Include) -> Hit {
    let passages = others.len() as u32 + 1;
    let Candidate { passage, score, dense, lexical, fused, reranked } = best;
    let further = others.into_iter().take(include.further_passages);
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
        explanation: include.explain.then_some(Explanation { dense, lexical, fused, reranked, rank: 0, passages }),
        further_passages: further.map(|other| further_passage(other, score, include)).collect(),
    }
}

fn further_passage(Candidate { passage, score, .. }: Candidate, best: f32, include: Include) -> FurtherPassage {
    FurtherPassage {
        chunk: passage.ordinal,
        score: score.min(best),
        heading_path: passage.heading_path,
        snippet: include.snippet.then(|| snippet(&passage.text)),
        text: include.text.then_some(passage.text),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ChunkId, Passage, Placement};

    fn candidate(chunk: u64, document: &str, score: f32) -> Candidate {
        let passage = Passage {
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
        };
        let dense = Some(Placement { score, rank: 1 });
        Candidate { passage, score, dense, lexical: None, fused: None, reranked: Vec::new() }
    }

    fn query(limit: usize) -> Query {
        Query { limit, include: Include { explain: true, ..Include::default() }, ..Query::text("a question") }
    }

    fn candidates(list: &[(u64, &str, f32)]) -> Vec<Candidate> {
        list.iter().map(|(id, document, score)| candidate(*id, document, *score)).collect()
    }

    #[test]
    fn a_document_appears_once_by_its_best_passage() {
        let hits = cut(candidates(&[(1, "a", 0.9), (2, "a", 0.8), (3, "b", 0.7)]), &query(10));
        let ids: Vec<_> = hits.iter().map(|h| (h.id.as_str(), h.score)).collect();
        assert_eq!(ids, [("a", 0.9), ("b", 0.7)]);
        let explained: Vec<_> = hits.iter().flat_map(|h| &h.explanation).map(|e| (e.rank, e.passages)).collect();
        assert_eq!(explained, [(1, 2), (2, 1)]);
    }

    #[test]
    fn a_hit_shows_as_many_further_passages_as_are_wanted() {
        let list = candidates(&[(1, "a", 0.9), (2, "b", 0.8), (3, "a", 0.7), (4, "a", 0.6)]);
        let further = |further_passages| {
            let include = Include { further_passages, ..Include::default() };
            let hits = cut(list.clone(), &Query { include, ..query(10) });
            hits[0].further_passages.iter().map(|passage| passage.score).collect::<Vec<_>>()
        };
        assert_eq!((further(0), further(1), further(3)), (vec![], vec![0.7], vec![0.7, 0.6]));
    }

    #[test]
    fn a_list_is_as_long_as_it_takes_to_name_enough_documents() {
        let [a, b, c] = ["a", "b", "c"].map(|id| DocumentId::parse("id", id).unwrap());
        let list = [Some(&a), None, Some(&a), Some(&b), Some(&c)];
        assert_eq!(naming(list.into_iter(), 2), Some(4));
        assert_eq!(naming(list.into_iter(), 4), None);
    }

    #[test]
    fn scores_never_rise_down_the_list() {
        let hits = cut(candidates(&[(1, "a", 0.3), (2, "b", 0.8), (3, "c", 0.2)]), &query(10));
        assert_eq!(hits.iter().map(|h| h.score).collect::<Vec<_>>(), [0.3, 0.3, 0.2]);
    }

    #[test]
    fn hits_under_the_minimum_are_left_out() {
        let query = Query { score_min: Some(0.8), ..query(10) };
        assert_eq!(cut(candidates(&[(1, "a", 0.8), (2, "b", 0.79)]), &query).len(), 1);
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
}
