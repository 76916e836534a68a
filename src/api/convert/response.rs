//! Domain types to responses.

use std::time::Duration;

use crate::api::proto;
use crate::api::status;
use crate::domain::{
    Answer, Degradation, DegradationReason, DocumentId, DocumentRecord, Explanation, FurtherPassage, Fusion, Hit,
    Placement, RerankMode, RerankPlacement, RerankStep, RetrievalExplanation, RetrievalMode,
};
use crate::error::{Error, Result};
use crate::ingest::Outcome;
use crate::telemetry::{Breakdown, Timeline};

use super::json::{from_struct, to_struct};

/// Returns where the time went.
pub(in crate::api) fn timings(timeline: &Timeline) -> Option<proto::Timings> {
    let stage = |name: &str, time: Duration| proto::StageTiming { stage: name.to_owned(), duration: duration(time) };
    let Breakdown { total, stages } = timeline.breakdown();
    let stages = stages.iter().map(|s| stage(s.stage.as_str(), s.duration)).collect();
    Some(proto::Timings { total: duration(total), stages })
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

fn hit(hit: Hit) -> proto::Hit {
    proto::Hit {
        id: hit.id.to_string(),
        score: hit.score,
        title: hit.title,
        source: hit.source,
        date: text(hit.date),
        r#type: hit.kind.unwrap_or_default(),
        domain: hit.domain.unwrap_or_default(),
        heading_path: hit.heading_path,
        chunk: hit.chunk,
        snippet: hit.snippet.unwrap_or_default(),
        text: hit.text.unwrap_or_default(),
        metadata: Some(to_struct(hit.metadata)).filter(|metadata| !metadata.fields.is_empty()),
        explanation: hit.explanation.map(explanation),
        further_passages: hit.further_passages.into_iter().map(further_passage).collect(),
    }
}

fn further_passage(passage: FurtherPassage) -> proto::FurtherPassage {
    proto::FurtherPassage {
        chunk: passage.chunk,
        score: passage.score,
        heading_path: passage.heading_path,
        snippet: passage.snippet.unwrap_or_default(),
        text: passage.text.unwrap_or_default(),
    }
}

/// Returns an answer as sent; how candidates were found only when asked for.
pub(in crate::api) fn answer(answer: Answer, timeline: &Timeline, explain: bool) -> proto::SearchResponse {
    let steps: Vec<_> = answer.rerank_steps.into_iter().map(rerank_step).collect();
    proto::SearchResponse {
        hits: answer.hits.into_iter().map(hit).collect(),
        timings: timings(timeline),
        degraded: steps.iter().any(|step| !step.degraded_reason.is_empty()),
        rerank_steps: steps,
        retrieval: explain.then(|| retrieval(answer.retrieval)),
    }
}

/// Returns what a step came to, as sent.
pub(in crate::api) fn rerank_step(step: RerankStep) -> proto::RerankStep {
    let (degraded_reason, degraded_message) =
        step.degraded.map(|d| (d.reason.as_str().to_owned(), d.message)).unwrap_or_default();
    proto::RerankStep {
        mode: rerank_mode(step.mode).into(),
        candidates: step.candidates,
        covered: step.covered,
        degraded_reason,
        degraded_message,
    }
}

/// Returns a mode as sent.
pub(in crate::api) fn rerank_mode(mode: RerankMode) -> proto::RerankMode {
    match mode {
        RerankMode::None => proto::RerankMode::None,
        RerankMode::LateInteraction => proto::RerankMode::LateInteraction,
        RerankMode::CrossEncoder => proto::RerankMode::CrossEncoder,
        RerankMode::Llm => proto::RerankMode::Llm,
        RerankMode::Cascade => proto::RerankMode::Cascade,
    }
}

fn retrieval(explanation: RetrievalExplanation) -> proto::RetrievalExplanation {
    let mode = match explanation.mode {
        RetrievalMode::Dense => proto::RetrievalMode::Dense,
        RetrievalMode::Lexical => proto::RetrievalMode::Lexical,
        RetrievalMode::Hybrid => proto::RetrievalMode::Hybrid,
    };
    let fusion = match explanation.fusion {
        None => proto::Fusion::Unspecified,
        Some(Fusion::Convex) => proto::Fusion::Convex,
        Some(Fusion::Rrf) => proto::Fusion::Rrf,
    };
    proto::RetrievalExplanation {
        mode: mode.into(),
        fusion: fusion.into(),
        dense_weight: explanation.dense_weight,
        passages: explanation.passages,
        passages_allowed: explanation.passages_allowed,
        dense_candidates: explanation.dense_candidates,
        lexical_candidates: explanation.lexical_candidates,
    }
}

fn explanation(explanation: Explanation) -> proto::Explanation {
    let placement = |p: Placement| proto::Placement { score: p.score, rank: p.rank };
    let reranked = |p: RerankPlacement| proto::RerankPlacement {
        mode: rerank_mode(p.mode).into(),
        score: p.score,
        rank_before: p.rank_before,
        rank_after: p.rank_after,
    };
    proto::Explanation {
        dense: explanation.dense.map(placement),
        lexical: explanation.lexical.map(placement),
        fused: explanation.fused.map(placement),
        reranked: explanation.reranked.into_iter().map(reranked).collect(),
        rank: explanation.rank,
        passages: explanation.passages,
    }
}

/// Returns an answer as a client sees it.
pub(in crate::api) fn answer_received(response: proto::SearchResponse) -> Result<Answer> {
    Ok(Answer {
        hits: response.hits.into_iter().map(hit_received).collect::<Result<_>>()?,
        rerank_steps: response.rerank_steps.into_iter().map(rerank_step_received).collect(),
        retrieval: response.retrieval.map(retrieval_received).unwrap_or_default(),
    })
}

/// Returns what a step came to, as a client sees it.
pub(in crate::api) fn rerank_step_received(step: proto::RerankStep) -> RerankStep {
    let reason = DegradationReason::ALL.into_iter().find(|reason| reason.as_str() == step.degraded_reason);
    RerankStep {
        mode: rerank_mode_received(step.mode()),
        candidates: step.candidates,
        covered: step.covered,
        degraded: reason.map(|reason| Degradation { reason, message: step.degraded_message }),
    }
}

fn rerank_mode_received(mode: proto::RerankMode) -> RerankMode {
    match mode {
        proto::RerankMode::Unspecified | proto::RerankMode::None => RerankMode::None,
        proto::RerankMode::LateInteraction => RerankMode::LateInteraction,
        proto::RerankMode::CrossEncoder => RerankMode::CrossEncoder,
        proto::RerankMode::Llm => RerankMode::Llm,
        proto::RerankMode::Cascade => RerankMode::Cascade,
    }
}

fn retrieval_received(explanation: proto::RetrievalExplanation) -> RetrievalExplanation {
    RetrievalExplanation {
        mode: match explanation.mode() {
            proto::RetrievalMode::Unspecified | proto::RetrievalMode::Dense => RetrievalMode::Dense,
            proto::RetrievalMode::Lexical => RetrievalMode::Lexical,
            proto::RetrievalMode::Hybrid => RetrievalMode::Hybrid,
        },
        fusion: match explanation.fusion() {
            proto::Fusion::Unspecified => None,
            proto::Fusion::Convex => Some(Fusion::Convex),
            proto::Fusion::Rrf => Some(Fusion::Rrf),
        },
        dense_weight: explanation.dense_weight,
        passages: explanation.passages,
        passages_allowed: explanation.passages_allowed,
        dense_candidates: explanation.dense_candidates,
        lexical_candidates: explanation.lexical_candidates,
    }
}

fn explanation_received(explanation: proto::Explanation) -> Explanation {
    let placement = |p: proto::Placement| Placement { score: p.score, rank: p.rank };
    let reranked = |p: proto::RerankPlacement| RerankPlacement {
        mode: rerank_mode_received(p.mode()),
        score: p.score,
        rank_before: p.rank_before,
        rank_after: p.rank_after,
    };
    Explanation {
        dense: explanation.dense.map(placement),
        lexical: explanation.lexical.map(placement),
        fused: explanation.fused.map(placement),
        reranked: explanation.reranked.into_iter().map(reranked).collect(),
        rank: explanation.rank,
        passages: explanation.passages,
    }
}

fn hit_received(hit: proto::Hit) -> Result<Hit> {
    Ok(Hit {
        id: DocumentId::parse("hit.id", hit.id)?,
        score: hit.score,
        title: hit.title,
        source: hit.source,
        date: hit.date.parse().ok(),
        kind: given(hit.r#type),
        domain: given(hit.domain),
        heading_path: hit.heading_path,
        chunk: hit.chunk,
        snippet: given(hit.snippet),
        text: given(hit.text),
        metadata: from_struct(hit.metadata.unwrap_or_default()),
        explanation: hit.explanation.map(explanation_received),
        further_passages: hit.further_passages.into_iter().map(further_passage_received).collect(),
    })
}

fn further_passage_received(passage: proto::FurtherPassage) -> FurtherPassage {
    FurtherPassage {
        chunk: passage.chunk,
        score: passage.score,
        heading_path: passage.heading_path,
        snippet: given(passage.snippet),
        text: given(passage.text),
    }
}

/// Returns a text unless it is empty, as what is not set is on the wire.
fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Returns a stored document with a text, which may be empty.
pub(in crate::api) fn listed(record: DocumentRecord, text_whole: String) -> (proto::Document, proto::DocumentInfo) {
    let info = proto::DocumentInfo {
        content_hash: record.content_hash,
        chunks: record.chunks,
        create_time: timestamp(record.created),
        update_time: timestamp(record.updated),
    };
    let document = proto::Document {
        id: record.id.to_string(),
        source: record.source,
        title: record.title,
        text: text_whole,
        date: text(record.date),
        r#type: record.kind.unwrap_or_default(),
        domain: record.domain.unwrap_or_default(),
        metadata: Some(to_struct(record.metadata)).filter(|metadata| !metadata.fields.is_empty()),
    };
    (document, info)
}

fn timestamp(time: jiff::Timestamp) -> Option<prost_types::Timestamp> {
    Some(prost_types::Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// Returns what became of a document.
pub(in crate::api) fn outcome(outcome: Outcome) -> proto::UpsertOutcome {
    match outcome {
        Outcome::Created => proto::UpsertOutcome::Created,
        Outcome::Updated => proto::UpsertOutcome::Updated,
        Outcome::Unchanged => proto::UpsertOutcome::Unchanged,
    }
}

/// Returns why one item of several failed.
pub(in crate::api) fn item_error(error: Error) -> proto::ItemError {
    let reason = status::reason(&error).to_owned();
    let status = status::status(error);
    proto::ItemError { code: status.code() as i32, message: status.message().to_owned(), reason }
}
