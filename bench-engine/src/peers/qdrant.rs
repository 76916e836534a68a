use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use qdrant_edge::external::serde_json::json;
use qdrant_edge::{
    Distance, EdgeConfig, EdgeShard, EdgeVectorParams, NamedQuery, PointId, PointInsertOperations, PointOperations,
    PointStruct, QueryEnum, SearchParams, SearchRequest, UpdateOperation,
};

use super::{Failure, Peer};
use crate::vectors::Vectors;

/// The engine of Qdrant in this process, exact or by its graph.
#[derive(Clone)]
pub struct Qdrant {
    shard: Arc<EdgeShard>,
    width: Option<usize>,
    optimise_s: f64,
}

impl Qdrant {
    /// Fills a shard and, if asked, builds its graph.
    pub fn build(path: &Path, vectors: &Vectors) -> Result<Self, Failure> {
        let params = EdgeVectorParams::builder(vectors.dimension, Distance::Dot).build();
        let shard = EdgeShard::new(path, EdgeConfig::builder().vector("", params).build())?;
        let mut points = Vec::new();
        for (id, row) in vectors.rows().enumerate() {
            points.push(PointStruct::new(id as u64, row.to_vec(), json!({})).into());
            if points.len() == 1_000 || id + 1 == vectors.len() {
                let list = PointInsertOperations::PointsList(std::mem::take(&mut points));
                shard.update(UpdateOperation::PointOperation(PointOperations::UpsertPoints(list)))?;
            }
        }
        Ok(Self { shard: Arc::new(shard), width: None, optimise_s: 0.0 })
    }

    /// Builds the graph and returns its search with the given width; exact searches go on as before.
    pub fn optimised(&self, width: usize) -> Result<Self, Failure> {
        let started = Instant::now();
        self.shard.optimize()?;
        Ok(Self { width: Some(width), optimise_s: started.elapsed().as_secs_f64(), ..self.clone() })
    }

    pub fn with_width(&self, width: usize) -> Self {
        Self { width: Some(width), ..self.clone() }
    }
}

impl Peer for Qdrant {
    fn name(&self) -> String {
        match self.width {
            None => "Qdrant engine (edge 0.7.2), exact".into(),
            Some(width) => format!("Qdrant engine (edge 0.7.2), HNSW, width {width}"),
        }
    }

    fn search(&mut self, query: &[f32], limit: usize) -> Result<Vec<u64>, Failure> {
        let params = SearchParams { exact: self.width.is_none(), hnsw_ef: self.width, ..SearchParams::default() };
        let found = self.shard.search(SearchRequest {
            query: QueryEnum::Nearest(NamedQuery { query: query.to_vec().into(), using: None }),
            filter: None,
            params: Some(params),
            limit,
            offset: 0,
            with_payload: None,
            with_vector: None,
            score_threshold: None,
        })?;
        let id = |id| if let PointId::NumId(id) = id { id } else { u64::MAX };
        Ok(found.iter().map(|point| id(point.id)).collect())
    }

    fn queries_per_round(&self) -> usize {
        if self.width.is_some() { 100 } else { 20 }
    }

    fn ready_s(&self) -> f64 {
        self.optimise_s
    }
}
