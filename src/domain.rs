//! The words of the service: what a document, a vector, a query and a hit are, and the limits on each.
//!
//! A type with an invariant is private inside and checked by its constructor, so whoever holds one may trust it.

mod deadline;
mod document;
mod filter;
mod hit;
pub mod limits;
mod query;
mod vector;

pub use deadline::Deadline;
pub use document::{
    Chunk, ChunkId, Document, DocumentId, DocumentRecord, Edge, EdgeKind, ModelIdentity, Passage, Pooling, Reference,
};
pub use filter::{Condition, Filter, Test};
pub use hit::{
    Answer, Degradation, DegradationReason, Explanation, FurtherPassage, Hit, Placement, RerankPlacement, RerankStep,
    RetrievalExplanation,
};
pub use query::{Accuracy, Fusion, Include, LexicalSyntax, Query, RerankMode, RetrievalMode, Target};
pub use vector::Vector;
