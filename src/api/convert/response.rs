//! Domain types to responses.

use std::time::Duration;

use crate::api::proto;
use crate::api::status;
use crate::domain::{DocumentId, DocumentRecord, Explanation, Hit};
use crate::error::{Error, Result};
use crate::ingest::Outcome;
use crate::telemetry::Timeline;

use super::json::{from_struct, to_struct};

/// Returns where the time went.
pub(in crate::api) fn timings(timeline: &Timeline) -> Option<proto::Timings> {
    let stage = |name: &str, time: Duration| proto::StageTiming { stage: name.to_owned(), duration: duration(time) };
    let stages = timeline.stages().iter().map(|s| stage(s.stage.as_str(), s.duration)).collect();
    Some(proto::Timings { total: duration(timeline.total()), stages })
}

fn duration(duration: Duration) -> Option<prost_types::Duration> {
    duration.try_into().ok()
}

/// Returns a hit as sent.
pub(in crate::api) fn hit(hit: Hit) -> proto::Hit {
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
    }
}

fn explanation(explanation: Explanation) -> proto::Explanation {
    let Explanation { dense_score, dense_rank, rerank_score, rank, passages } = explanation;
    proto::Explanation { dense_score, dense_rank, rerank_score, rank, passages }
}

/// Returns a hit as a client sees it.
pub(in crate::api) fn hit_received(hit: proto::Hit) -> Result<Hit> {
    let given = |text: String| Some(text).filter(|text| !text.is_empty());
    let explanation = |e: proto::Explanation| Explanation {
        dense_score: e.dense_score,
        dense_rank: e.dense_rank,
        rerank_score: e.rerank_score,
        rank: e.rank,
        passages: e.passages,
    };
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
        explanation: hit.explanation.map(explanation),
    })
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
