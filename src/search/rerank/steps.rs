//! The steps of a rerank: who scores, how many, and for how long.

use super::Text;
use super::ranking::Ranking;
use crate::domain::{Deadline, DegradationReason, RerankMode, RerankStep};
use crate::model::{CrossEncoder, Llm, Scored};
use crate::search::Searcher;
use crate::telemetry::metrics;

/// Why a reranker that was asked for is not there.
const NO_CROSS_ENCODER: &str =
    "this server has no cross-encoder; set cross_encoder.name or cross_encoder.dir (docs/reranking.md)";
const NO_LLM: &str = "this server has no language model; set llm.endpoint and llm.model (docs/reranking.md)";

/// One step: who scores the best so many of the order so far, and how many of them it is to score.
#[derive(Debug)]
struct Step<'a> {
    scorer: Scorer<'a>,
    candidates: usize,
    wanted: usize,
}

/// Who scores.
#[derive(Debug)]
enum Scorer<'a> {
    LateInteraction,
    CrossEncoder(Option<&'a CrossEncoder>),
    Llm(Option<&'a Llm>),
}

impl Scorer<'_> {
    fn mode(&self) -> RerankMode {
        match self {
            Self::LateInteraction => RerankMode::LateInteraction,
            Self::CrossEncoder(_) => RerankMode::CrossEncoder,
            Self::Llm(_) => RerankMode::Llm,
        }
    }
}

impl Searcher {
    /// Puts texts, which come best first, in order by the steps of a mode, until the deadline.
    pub(super) async fn run(
        &self,
        mode: RerankMode,
        query: &str,
        texts: Vec<Text>,
        deadline: Deadline,
    ) -> (Ranking, Vec<RerankStep>) {
        let mut ranking = Ranking::new(texts.len());
        let plan = self.plan(mode, texts.len());
        let mut steps = Vec::with_capacity(plan.len());
        for (done, step) in plan.iter().enumerate() {
            let best = &ranking.order()[..step.candidates];
            let best = best.iter().map(|place| texts[*place].clone()).collect();
            let share = share(deadline, plan.len() - done);
            let scored = self.score(step, query, best, share).await;
            ranking.apply(step.scorer.mode(), &scored.scores);
            steps.push(account(step, scored));
        }
        (ranking, steps)
    }

    fn plan(&self, mode: RerankMode, texts: usize) -> Vec<Step<'_>> {
        let (config, llm) = (&self.rerankers.config, self.rerankers.llm.as_ref());
        let cross_encoder = self.rerankers.cross_encoder.as_ref();
        let all = |scorer, candidates| Step { scorer, candidates, wanted: candidates };
        match mode {
            RerankMode::None => Vec::new(),
            RerankMode::LateInteraction => vec![all(Scorer::LateInteraction, texts)],
            RerankMode::CrossEncoder => vec![all(Scorer::CrossEncoder(cross_encoder), texts)],
            RerankMode::Llm => {
                let candidates = llm.map_or(texts, |llm| texts.min(llm.candidates_max()));
                vec![all(Scorer::Llm(llm), candidates)]
            }
            RerankMode::Cascade => {
                let first = cross_encoder.map_or(Scorer::LateInteraction, |model| Scorer::CrossEncoder(Some(model)));
                let candidates = texts.min(config.cascade_llm_candidates.get());
                let wanted = candidates.min(config.cascade_llm_hits.get());
                let last = Step { scorer: Scorer::Llm(llm), candidates, wanted };
                vec![all(first, texts.min(config.cascade_candidates.get())), last]
            }
        }
    }

    async fn score(&self, step: &Step<'_>, query: &str, texts: Vec<Text>, deadline: Deadline) -> Scored {
        let (count, batch) = (texts.len(), self.rerankers.config.batch);
        let (texts, chunks): (Vec<_>, Vec<_>) = texts.into_iter().map(|text| (text.text, text.chunk)).unzip();
        match step.scorer {
            Scorer::LateInteraction => self.late_interaction(query, &chunks, texts, batch, deadline).await,
            Scorer::CrossEncoder(Some(model)) => model.score(query, texts, batch, deadline).await,
            Scorer::Llm(Some(llm)) => llm.rank(query, &texts, step.wanted, deadline).await,
            Scorer::CrossEncoder(None) => not_configured(count, NO_CROSS_ENCODER),
            Scorer::Llm(None) => not_configured(count, NO_LLM),
        }
    }
}

/// Returns the deadline of the next of `steps` steps: each has its share of the time that those before it left.
fn share(deadline: Deadline, steps: usize) -> Deadline {
    match deadline.remaining() {
        None => Deadline::NONE,
        Some(left) => Deadline::after(left / u32::try_from(steps).unwrap_or(u32::MAX).max(1)),
    }
}

fn not_configured(texts: usize, message: &str) -> Scored {
    Scored::nothing(texts, DegradationReason::NotConfigured, message)
}

/// Says, and counts, what a step came to.
fn account(step: &Step<'_>, scored: Scored) -> RerankStep {
    let (mode, covered) = (step.scorer.mode(), scored.scores.iter().flatten().count());
    metrics::rerank_step(mode.as_str(), step.wanted as u64, covered as u64);
    if let Some(degraded) = &scored.degraded {
        metrics::rerank_degraded(mode.as_str(), degraded.reason.as_str());
    }
    RerankStep { mode, candidates: step.candidates as u32, covered: covered as u32, degraded: scored.degraded }
}
