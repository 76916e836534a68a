//! A passage on its way from retrieval to a hit.

use crate::domain::{ChunkId, Passage, Placement, RerankPlacement};

/// A passage in its place, its text not yet known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranked {
    pub id: ChunkId,
    /// What decides its place, in [0, 1].
    pub score: f32,
    /// By dense retrieval.
    pub dense: Option<Placement>,
    /// By lexical retrieval.
    pub lexical: Option<Placement>,
    /// After fusion.
    pub fused: Option<Placement>,
}

/// A passage that may become a hit, with all that is known of its worth.
#[derive(Debug, Clone)]
pub(super) struct Candidate {
    pub passage: Passage,
    /// What decides its place, in [0, 1].
    pub score: f32,
    /// By dense retrieval: the cosine.
    pub dense: Option<Placement>,
    /// By lexical retrieval: BM25.
    pub lexical: Option<Placement>,
    /// After fusion.
    pub fused: Option<Placement>,
    /// By each step of the rerank that scored it.
    pub reranked: Vec<RerankPlacement>,
}

/// Returns what a reranker reads of a passage: as when it was embedded, its title and headings unless its own text shows
/// them.
pub(super) fn passage_text(passage: &Passage) -> String {
    let text = passage.text.trim();
    let shown = |line: &str| text.lines().any(|own| own.trim_matches(['#', ' ']) == line);
    let above = std::iter::once(&passage.title).chain(&passage.heading_path).filter(|line| !line.is_empty());
    let mut lines: Vec<&str> = above.map(String::as_str).filter(|line| !shown(line)).collect();
    lines.dedup();
    lines.push(text);
    lines.join("\n")
}
