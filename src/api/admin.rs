//! The AdminService.

use tonic::{Request, Response, Status};

use super::gate::Gate;
use super::proto::admin_service_server::AdminService;
use super::proto::{Degradation, EngineStats, GetStatsRequest, GetStatsResponse, ModelInfo, StoreStats};
use crate::health::{Health, State};
use crate::search::{IndexStats, Searcher};

pub(super) struct Service {
    pub searcher: Searcher,
    pub health: Health,
    pub gate: Gate,
}

#[tonic::async_trait]
impl AdminService for Service {
    async fn get_stats(&self, request: Request<GetStatsRequest>) -> Result<Response<GetStatsResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let stats = pass.run(self.searcher.stats()).await?;
        let parts = self.health.current().parts;
        let degradation = |(part, state): (&'static str, State)| match state {
            State::Serving => None,
            State::Degraded(message) | State::Down(message) => Some(Degradation { part: part.to_owned(), message }),
        };
        Ok(Response::new(GetStatsResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            degradations: parts.into_iter().filter_map(degradation).collect(),
            ..response(stats)
        }))
    }
}

fn response(stats: IndexStats) -> GetStatsResponse {
    let IndexStats { store, engine, model, sessions } = stats;
    GetStatsResponse {
        store: Some(StoreStats {
            documents: store.documents,
            chunks: store.chunks,
            embeddings: store.embeddings,
            edges: store.edges,
            references_dangling: store.references_dangling,
            database_bytes: store.database_bytes,
            wal_bytes: store.wal_bytes,
            free_bytes: store.free_bytes,
            schema_version: store.schema_version,
        }),
        engine: Some(EngineStats { vectors: engine.vectors, bytes: engine.bytes }),
        model: Some(ModelInfo {
            name: model.name,
            dimension: model.dimension as u32,
            tokens_max: model.tokens_max as u32,
            file_sha256: model.file_sha256,
            onnxruntime: model.onnxruntime,
            sessions: sessions as u32,
        }),
        ..GetStatsResponse::default()
    }
}
