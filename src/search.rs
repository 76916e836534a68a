//! A search, one straight line: embed → filter → retrieve → hydrate → rerank → cut.

mod catalogue;
mod rank;

use std::sync::Arc;

use futures::future::try_join_all;

pub use self::catalogue::IndexStats;
use self::rank::Candidate;
use crate::domain::{
    Condition, Deadline, DocumentId, Filter, Hit, Passage, Query, RerankMode, Target, Test, Vector, limits,
};
use crate::engine::{IdSet, Request, Scored, VectorEngine};
use crate::error::{Error, Result};
use crate::model::{Embedded, Model};
use crate::store::Store;
use crate::telemetry::{Stage, Timeline};

/// Answers searches; a cheap clone of handles.
#[derive(Clone)]
pub struct Searcher {
    store: Store,
    engine: Arc<dyn VectorEngine>,
    model: Model,
}

/// A candidate of a rerank: its text, or a document of the index.
#[derive(Debug, Clone)]
pub enum RerankItem {
    /// A text.
    Text(String),
    /// A document, by its best passage.
    Document(DocumentId),
}

/// A candidate's worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reranked {
    /// Its place in the request, from 0.
    pub index: usize,
    /// Mean MaxSim, in [-1, 1].
    pub score: f32,
}

impl Searcher {
    /// Returns a searcher over these parts, which must be in step.
    pub fn new(store: Store, engine: Arc<dyn VectorEngine>, model: Model) -> Self {
        Self { store, engine, model }
    }

    /// Finds the documents nearest to the query's target, best first.
    ///
    /// # Errors
    ///
    /// `Invalid` for a wrong dimension or a text without direction, `NotFound` for an unknown document, `Overloaded`,
    /// `Deadline`.
    pub async fn search(&self, query: Query, timeline: &mut Timeline) -> Result<Vec<Hit>> {
        let vector = timeline.timed(Stage::Embed, self.target_vector(&query)).await?;
        let allowed = match query.filter.is_empty() {
            true => None,
            false => Some(timeline.timed(Stage::Filter, self.store.matching(query.filter.clone())).await?),
        };
        let found = self.candidates(&query, vector, allowed, timeline).await?;
        let ordered = match (query.rerank, &query.target) {
            (RerankMode::None, _) => found,
            (RerankMode::LateInteraction, Target::Text(text)) => {
                timeline.timed(Stage::Rerank, self.late_interaction(text, found, query.deadline)).await?
            }
            (RerankMode::LateInteraction, _) => {
                return Err(Error::invalid("rerank_mode", "LATE_INTERACTION needs a text query"));
            }
        };
        Ok(rank::cut(ordered, &query))
    }

    /// Scores texts and documents against a query, best first, at most `limit` of them.
    ///
    /// # Errors
    ///
    /// `NotFound` for an unknown document, `Overloaded`, `Deadline`.
    pub async fn rerank(
        &self,
        query: String,
        items: Vec<RerankItem>,
        limit: usize,
        deadline: Deadline,
        timeline: &mut Timeline,
    ) -> Result<Vec<Reranked>> {
        let (owners, texts) = timeline.timed(Stage::Hydrate, self.item_texts(items)).await?;
        let scoring = self.model.late_interaction(query, texts, deadline);
        let scores = timeline.timed(Stage::Rerank, scoring).await?;
        Ok(rank::best_per_item(&owners, &scores, limit))
    }

    /// Embeds texts, as queries or as passages, in their order.
    pub async fn embed(
        &self,
        texts: Vec<String>,
        purpose: Purpose,
        deadline: Deadline,
        timeline: &mut Timeline,
    ) -> Result<Vec<Embedded>> {
        let embedding = async {
            match purpose {
                Purpose::Passage => self.model.embed_passages(texts).await,
                Purpose::Query => try_join_all(texts.into_iter().map(|t| self.model.embed_query(t, deadline))).await,
            }
        };
        timeline.timed(Stage::Embed, embedding).await
    }

    /// Returns the vector to be near to.
    async fn target_vector(&self, query: &Query) -> Result<Vector> {
        match &query.target {
            Target::Vector(vector) => Ok(vector.clone()),
            Target::Text(text) => {
                let embedded = self.model.embed_query(text.clone(), query.deadline).await?;
                embedded
                    .vector
                    .ok_or_else(|| Error::invalid("query.text", "has no direction for this model; use words"))
            }
            Target::Document(id) => mean(&self.store.document_vectors(id.clone()).await?, id),
        }
    }

    /// Returns the nearest passages: as many as asked for, or enough for `limit` documents.
    ///
    /// A document can fill many places of the list with its passages, so the list grows until it names enough documents, and
    /// ends with the passage that does: a rerank pays for each. A round fetches only what the one before did not.
    async fn candidates(
        &self,
        query: &Query,
        vector: Vector,
        filter: Option<IdSet>,
        timeline: &mut Timeline,
    ) -> Result<Vec<Candidate>> {
        let mut limit = query.candidates.unwrap_or_else(|| query.candidates_default());
        let mut candidates = Vec::new();
        let mut ranked = 0;
        loop {
            let (vector, filter) = (vector.clone(), filter.clone());
            let request = Request { vector, limit, filter, accuracy: query.accuracy, deadline: query.deadline };
            let found = timeline.timed(Stage::Retrieve, self.engine.search(request)).await?.scored;
            let new = &found[ranked.min(found.len())..];
            candidates.extend(timeline.timed(Stage::Hydrate, self.hydrate(query, new, ranked)).await?);
            ranked = found.len();
            let all = ranked < limit || limit >= limits::CANDIDATES_MAX || query.candidates.is_some();
            let enough = rank::naming(&candidates, query.limit);
            if all || enough.is_some() {
                let least = query.candidates.unwrap_or_else(|| query.candidates_default());
                candidates.truncate(enough.map_or(usize::MAX, |enough| enough.max(least)));
                return Ok(candidates);
            }
            limit = (limit * 4).min(limits::CANDIDATES_MAX);
        }
    }

    /// Turns numbers, the first of which came at place `ranked + 1`, into passages; what was deleted meanwhile, and the
    /// document asked about, are left out.
    async fn hydrate(&self, query: &Query, scored: &[Scored], ranked: usize) -> Result<Vec<Candidate>> {
        let chunks = scored.iter().map(|s| s.id).collect();
        let passages = match query.needs_text() {
            true => self.store.passages(chunks).await?,
            false => self.store.passages_untold(chunks).await?,
        };
        let mut candidates = rank::join(scored, passages, ranked);
        if let Target::Document(id) = &query.target {
            candidates.retain(|c| c.passage.document != *id);
        }
        Ok(candidates)
    }

    async fn late_interaction(
        &self,
        query: &str,
        mut found: Vec<Candidate>,
        deadline: Deadline,
    ) -> Result<Vec<Candidate>> {
        let texts = found.iter().map(|c| passage_text(&c.passage)).collect();
        let scores = self.model.late_interaction(query.to_owned(), texts, deadline).await?;
        for (candidate, score) in found.iter_mut().zip(scores) {
            candidate.rerank_score = Some(score);
        }
        Ok(found)
    }

    /// Returns the texts to score and, for each, the item that it belongs to.
    async fn item_texts(&self, items: Vec<RerankItem>) -> Result<(Vec<usize>, Vec<String>)> {
        let mut owners = Vec::with_capacity(items.len());
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            match item {
                RerankItem::Text(text) => texts.push(text),
                RerankItem::Document(id) => texts.extend(self.document_passages(id).await?.iter().map(passage_text)),
            }
            owners.resize(texts.len(), index);
        }
        Ok((owners, texts))
    }

    async fn document_passages(&self, id: DocumentId) -> Result<Vec<Passage>> {
        let test = Test::AnyOf(vec![id.as_str().into()]);
        let filter = Filter { all: vec![Condition { field: "id".to_owned(), test }] };
        let chunks = self.store.matching(filter).await?;
        if chunks.is_empty() {
            return Err(Error::not_found("document", id.as_str()));
        }
        self.store.passages(chunks.iter().map(crate::domain::ChunkId).collect()).await
    }
}

/// What a text is, where the model treats the two differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To be found.
    Passage,
    /// To find others with.
    Query,
}

/// Returns what a reranker reads of a passage: as when it was embedded, its title and headings unless its own text shows
/// them.
fn passage_text(passage: &Passage) -> String {
    let text = passage.text.trim();
    let shown = |line: &str| text.lines().any(|own| own.trim_matches(['#', ' ']) == line);
    let above = std::iter::once(&passage.title).chain(&passage.heading_path).filter(|line| !line.is_empty());
    let mut lines: Vec<&str> = above.map(String::as_str).filter(|line| !shown(line)).collect();
    lines.dedup();
    lines.push(text);
    lines.join("\n")
}

/// Returns the direction that vectors have in common.
fn mean(vectors: &[Vector], id: &DocumentId) -> Result<Vector> {
    let Some(first) = vectors.first() else {
        return Err(Error::not_found("document", id.as_str()));
    };
    let mut sum = vec![0.0; first.dimension()];
    for vector in vectors {
        sum.iter_mut().zip(vector.as_slice()).for_each(|(s, v)| *s += v);
    }
    Vector::normalise("query.document_id", sum)?
        .ok_or_else(|| Error::invalid("query.document_id", "the document's passages have no direction in common"))
}
