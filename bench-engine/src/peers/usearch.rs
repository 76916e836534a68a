use std::sync::Arc;
use std::time::Instant;

use rayon::prelude::*;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

use super::{Failure, Peer};
use crate::vectors::Vectors;

/// USearch's HNSW, one graph searched with several widths.
#[derive(Clone)]
pub struct Usearch {
    index: Arc<Index>,
    width: usize,
    build_s: f64,
}

impl Usearch {
    /// Builds the graph on every core: M 16, width 128 while adding, f32.
    pub fn build(vectors: &Vectors) -> Result<Self, Failure> {
        let options = IndexOptions {
            dimensions: vectors.dimension,
            metric: MetricKind::IP,
            quantization: ScalarKind::F32,
            connectivity: 16,
            expansion_add: 128,
            expansion_search: 128,
            ..IndexOptions::default()
        };
        let index = Index::new(&options).map_err(|e| e.to_string())?;
        index.reserve(vectors.len()).map_err(|e| e.to_string())?;
        let started = Instant::now();
        let added: Result<(), String> = (0..vectors.len())
            .into_par_iter()
            .try_for_each(|at| index.add(at as u64, vectors.row(at)).map_err(|e| e.to_string()));
        added?;
        Ok(Self { index: Arc::new(index), width: 128, build_s: started.elapsed().as_secs_f64() })
    }

    pub fn with_width(&self, width: usize) -> Self {
        Self { width, ..self.clone() }
    }
}

impl Peer for Usearch {
    fn name(&self) -> String {
        format!("usearch HNSW f32, width {}", self.width)
    }

    fn search(&mut self, query: &[f32], limit: usize) -> Result<Vec<u64>, Failure> {
        self.index.change_expansion_search(self.width);
        Ok(self.index.search(query, limit).map_err(|e| e.to_string())?.keys)
    }

    fn ready_s(&self) -> f64 {
        self.build_s
    }
}
