use std::sync::Arc;
use std::time::Instant;

use amalfa::domain::{ChunkId, Deadline, Vector};
use amalfa::engine::{Accuracy, Change, Config, FlatEngine, IdSet, Request, VectorEngine};
use tokio::runtime::Runtime;

use super::{Failure, Peer};
use crate::vectors::Vectors;

/// Amalfa's engine, called from one thread.
pub struct Ours {
    pub engine: Arc<FlatEngine>,
    pub runtime: Runtime,
    pub label: &'static str,
    pub accuracy: Accuracy,
    pub filter: Option<IdSet>,
    pub ready_s: f64,
}

impl Ours {
    pub fn new(engine: &Arc<FlatEngine>, label: &'static str, accuracy: Accuracy, filter: Option<IdSet>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { engine: Arc::clone(engine), runtime, label, accuracy, filter, ready_s: 0.0 }
    }
}

impl Peer for Ours {
    fn name(&self) -> String {
        format!("amalfa {}", self.label)
    }

    fn search(&mut self, query: &[f32], limit: usize) -> Result<Vec<u64>, Failure> {
        let request = Request { filter: self.filter.clone(), ..request(query, limit, self.accuracy)? };
        let found = self.runtime.block_on(self.engine.search(request))?;
        Ok(found.scored.iter().map(|scored| scored.id.0).collect())
    }

    fn ready_s(&self) -> f64 {
        self.ready_s
    }
}

pub fn engine(threads: usize, dimension: usize) -> Result<Arc<FlatEngine>, Failure> {
    Ok(Arc::new(FlatEngine::new(&Config { threads, ..Config::default() }, dimension)?))
}

pub fn request(query: &[f32], limit: usize, accuracy: Accuracy) -> Result<Request, Failure> {
    let vector = Vector::normalise("query", query.to_vec())?.ok_or("a query without direction")?;
    Ok(Request { vector, limit, filter: None, accuracy, deadline: Deadline::NONE })
}

/// Adds vectors in batches, as an ingest does; returns the seconds in all, of the slowest and of the last batch.
pub fn load(engine: &FlatEngine, vectors: &Vectors, batch: usize) -> Result<(f64, f64, f64), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let (started, mut slowest, mut last) = (Instant::now(), 0.0f64, 0.0);
    let mut id = 0;
    for rows in vectors.values.chunks(batch * vectors.dimension) {
        let mut change = Change::default();
        for row in rows.chunks_exact(vectors.dimension) {
            let vector = Vector::normalise("vector", row.to_vec())?.ok_or("a vector without direction")?;
            change.added.push((ChunkId(id), vector));
            id += 1;
        }
        let began = Instant::now();
        runtime.block_on(engine.apply(change))?;
        last = began.elapsed().as_secs_f64();
        slowest = slowest.max(last);
    }
    Ok((started.elapsed().as_secs_f64(), slowest, last))
}
