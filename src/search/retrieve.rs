//! Which passages may answer: the nearest by their vectors, those with the words of the query, or both lists fused.

use std::collections::HashMap;

use super::candidate::{Candidate, Ranked};
use super::fuse::Lists;
use super::{Searcher, rank};
use crate::domain::{
    Accuracy, ChunkId, Passage, Query, RerankMode, RetrievalExplanation, RetrievalMode, Target, Vector, limits,
};
use crate::engine::{IdSet, Request, Scored};
use crate::error::{Error, Result};
use crate::store::{LexicalFound, LexicalQuery};
use crate::telemetry::{Stage, Timeline};

/// Passages that each list of a hybrid search has at least: what is far down in one may be first once fused.
const FUSED_DEPTH_MIN: usize = 100;

/// A retrieval under way.
struct Retrieval<'a> {
    query: &'a Query,
    mode: RetrievalMode,
    allowed: Option<IdSet>,
    /// What to be near to, once it is known.
    vector: Option<Vector>,
    /// What was hydrated so far.
    passages: HashMap<ChunkId, Passage>,
}

impl Searcher {
    /// Returns the best candidates, best first: as many as asked for, or enough for `limit` documents.
    ///
    /// A document can fill many places of the list with its passages, so the list grows until it names enough documents, and
    /// ends with the passage that does: a rerank pays for each.
    pub(super) async fn retrieve(
        &self,
        query: &Query,
        allowed: Option<IdSet>,
        timeline: &mut Timeline,
    ) -> Result<(Vec<Candidate>, RetrievalExplanation)> {
        let mode = self.retrieval_mode(query);
        let least = query.candidates.unwrap_or_else(|| self.candidates_default(query));
        let mut depth = if mode == RetrievalMode::Hybrid { least.max(FUSED_DEPTH_MIN) } else { least };
        let mut retrieval = Retrieval { query, mode, allowed, vector: None, passages: HashMap::new() };
        loop {
            let lists = self.lists(&mut retrieval, depth, timeline).await?;
            let mut ranked = self.ranked(&retrieval, &lists);
            let whole = ranked.len() < depth || depth == limits::CANDIDATES_MAX || query.candidates.is_some();
            let named = self.name_documents(&mut retrieval, &ranked, least, timeline).await?;
            if whole || named.is_some() {
                ranked.truncate(named.map_or(limits::CANDIDATES_MAX, |named| named.max(least)));
                let explanation = self.explanation(&retrieval, &lists);
                return Ok((candidates(ranked, retrieval.passages), explanation));
            }
            depth = (depth * 4).min(limits::CANDIDATES_MAX);
        }
    }

    /// Returns how candidates are found; what is not a text has only a direction.
    fn retrieval_mode(&self, query: &Query) -> RetrievalMode {
        match (&query.target, query.retrieval) {
            (Target::Text(_), mode) => mode.unwrap_or(self.config.retrieval),
            (_, _) => RetrievalMode::Dense,
        }
    }

    /// Returns how many passages retrieval begins with when the query does not say.
    ///
    /// Without a rerank, half as many again as hits are wanted: most documents have one passage among the best. With one,
    /// at least [`limits::CANDIDATES_DEFAULT`], since a rerank can only lift what it sees.
    fn candidates_default(&self, query: &Query) -> usize {
        let least = match self.rerank_mode(query) {
            RerankMode::None => 0,
            _ => limits::CANDIDATES_DEFAULT,
        };
        (query.limit + query.limit.div_ceil(2)).max(least).min(limits::CANDIDATES_MAX)
    }

    /// Returns the lists that the mode asks for, each of at most `depth` passages; two are made at the same time.
    async fn lists(&self, retrieval: &mut Retrieval<'_>, depth: usize, timeline: &mut Timeline) -> Result<Lists> {
        match retrieval.mode {
            RetrievalMode::Dense => {
                let dense = self.dense(retrieval, depth, timeline).await?;
                Ok(Lists { dense, ..Lists::default() })
            }
            RetrievalMode::Lexical => {
                let lexical = self.lexical(lexical_query(retrieval, depth)?, timeline).await?;
                Ok(Lists { lexical, ..Lists::default() })
            }
            RetrievalMode::Hybrid => {
                let mut beside = timeline.branch();
                let lexical = self.lexical(lexical_query(retrieval, depth)?, &mut beside);
                let (dense, lexical) = tokio::try_join!(self.dense(retrieval, depth, timeline), lexical)?;
                timeline.join(beside);
                let lists = Lists { dense, lexical, completed: Vec::new() };
                timeline.timed(Stage::Fuse, self.complete(retrieval, lists)).await
            }
        }
    }

    async fn dense(&self, retrieval: &mut Retrieval<'_>, limit: usize, timeline: &mut Timeline) -> Result<Vec<Scored>> {
        let query = retrieval.query;
        if retrieval.vector.is_none() {
            retrieval.vector = timeline.timed(Stage::Embed, self.target_vector(query)).await?;
        }
        let (accuracy, deadline, filter) = (query.accuracy, query.deadline, retrieval.allowed.clone());
        match retrieval.vector.clone() {
            Some(vector) => {
                let request = Request { vector, limit, filter, accuracy, deadline };
                Ok(timeline.timed(Stage::Retrieve, self.engine.search(request)).await?.scored)
            }
            // Its words may find something all the same.
            None if retrieval.mode == RetrievalMode::Hybrid => Ok(Vec::new()),
            None => Err(Error::invalid("query.text", "has no direction for this model; use words")),
        }
    }

    async fn lexical(&self, query: LexicalQuery, timeline: &mut Timeline) -> Result<LexicalFound> {
        timeline.timed(Stage::Lexical, self.store.lexical(query)).await
    }

    /// Adds the cosines of passages that only words found; exact, since these are few.
    async fn complete(&self, retrieval: &Retrieval<'_>, mut lists: Lists) -> Result<Lists> {
        let lacking = lists.without_cosine();
        if let (Some(vector), false) = (retrieval.vector.clone(), lacking.is_empty()) {
            let (limit, deadline) = (lacking.len() as usize, retrieval.query.deadline);
            let request = Request { vector, limit, filter: Some(lacking), accuracy: Accuracy::Exact, deadline };
            lists.completed = self.engine.search(request).await?.scored;
        }
        Ok(lists)
    }

    fn ranked(&self, retrieval: &Retrieval<'_>, lists: &Lists) -> Vec<Ranked> {
        let query = retrieval.query;
        match retrieval.mode {
            RetrievalMode::Dense => lists.dense(),
            RetrievalMode::Lexical => lists.lexical(),
            RetrievalMode::Hybrid => {
                let dense_weight = query.dense_weight.unwrap_or(self.config.dense_weight);
                lists.fused(query.fusion.unwrap_or(self.config.fusion), dense_weight)
            }
        }
    }

    /// Hydrates `least` passages, and further ones as needed, until they name `limit` documents; returns how many of the
    /// first do, `None` when all of them do not.
    async fn name_documents(
        &self,
        retrieval: &mut Retrieval<'_>,
        ranked: &[Ranked],
        least: usize,
        timeline: &mut Timeline,
    ) -> Result<Option<usize>> {
        let mut count = least;
        loop {
            let first = &ranked[..count.min(ranked.len())];
            timeline.timed(Stage::Hydrate, self.hydrate(retrieval, first)).await?;
            let documents = first.iter().map(|r| retrieval.passages.get(&r.id).map(|passage| &passage.document));
            let named = rank::naming(documents, retrieval.query.limit);
            if named.is_some() || count >= ranked.len() || retrieval.query.candidates.is_some() {
                return Ok(named);
            }
            count *= 4;
        }
    }

    /// Fetches the passages that are not known yet; those deleted meanwhile, and the document asked about, are left out.
    async fn hydrate(&self, retrieval: &mut Retrieval<'_>, ranked: &[Ranked]) -> Result<()> {
        let known = &mut retrieval.passages;
        let unknown: Vec<_> = ranked.iter().map(|r| r.id).filter(|id| !known.contains_key(id)).collect();
        if unknown.is_empty() {
            return Ok(());
        }
        let mut passages = match self.reads_texts(retrieval.query) {
            true => self.store.passages(unknown).await?,
            false => self.store.passages_untold(unknown).await?,
        };
        if let Target::Document(id) = &retrieval.query.target {
            passages.retain(|passage| passage.document != *id);
        }
        known.extend(passages.into_iter().map(|passage| (passage.chunk, passage)));
        Ok(())
    }

    fn reads_texts(&self, query: &Query) -> bool {
        query.include.text || query.include.snippet || self.rerank_mode(query) != RerankMode::None
    }

    fn explanation(&self, retrieval: &Retrieval<'_>, lists: &Lists) -> RetrievalExplanation {
        let Retrieval { query, mode, allowed, .. } = retrieval;
        let (fusion, dense_weight) = match mode {
            RetrievalMode::Dense => (None, 1.0),
            RetrievalMode::Lexical => (None, 0.0),
            RetrievalMode::Hybrid => (
                Some(query.fusion.unwrap_or(self.config.fusion)),
                query.dense_weight.unwrap_or(self.config.dense_weight),
            ),
        };
        RetrievalExplanation {
            mode: *mode,
            fusion,
            dense_weight,
            passages: self.engine.stats().vectors,
            passages_allowed: allowed.as_ref().map(|allowed| allowed.len()),
            dense_candidates: lists.dense.len() as u32,
            lexical_candidates: lists.lexical.scored.len() as u32,
        }
    }
}

fn lexical_query(retrieval: &Retrieval<'_>, limit: usize) -> Result<LexicalQuery> {
    let Query { target: Target::Text(text), lexical_syntax, deadline, .. } = retrieval.query else {
        return Err(Error::invalid("retrieval_mode", "LEXICAL and HYBRID need a text query"));
    };
    Ok(LexicalQuery {
        text: text.clone(),
        syntax: *lexical_syntax,
        allowed: retrieval.allowed.clone(),
        limit,
        deadline: *deadline,
    })
}

/// Puts passages to their scores; those that were not hydrated or are gone are left out.
fn candidates(ranked: Vec<Ranked>, mut passages: HashMap<ChunkId, Passage>) -> Vec<Candidate> {
    let candidate = |ranked: Ranked| {
        let Ranked { id, score, dense, lexical, fused } = ranked;
        Some(Candidate { passage: passages.remove(&id)?, score, dense, lexical, fused, reranked: Vec::new() })
    };
    ranked.into_iter().filter_map(candidate).collect()
}
