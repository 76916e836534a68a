//! The SearchService.

use futures::StreamExt;
use futures::stream;
use tonic::{Request, Response, Status};

use super::gate::Gate;
use super::proto::search_service_server::SearchService;
use super::proto::{
    BatchSearchRequest, BatchSearchResponse, BatchSearchResult, EmbedRequest, EmbedResponse, Embedding, RerankRequest,
    RerankResponse, RerankResult, SearchRequest, SearchResponse, batch_search_result,
};
use super::{convert, status::status};
use crate::domain::Deadline;
use crate::error::Result;
use crate::model::Embedded;
use crate::search::{RerankItem, Searcher};
use crate::telemetry::Timeline;

/// Searches of one batch that run at a time: enough to keep the cores busy, few enough to leave room for others.
const BATCH_CONCURRENCY: usize = 8;

pub(super) struct Service {
    pub searcher: Searcher,
    pub gate: Gate,
}

impl Service {
    async fn search_one(&self, request: SearchRequest, deadline: Deadline) -> Result<SearchResponse> {
        let mut timeline = Timeline::start();
        let query = convert::query(request, self.searcher.dimension(), deadline)?;
        let explain = query.include.explain;
        let answer = self.searcher.search(query, &mut timeline).await?;
        Ok(convert::answer(answer, &timeline, explain))
    }

    async fn batch_item(&self, request: SearchRequest, deadline: Deadline) -> BatchSearchResult {
        let result = match self.search_one(request, deadline).await {
            Ok(response) => batch_search_result::Result::Response(response),
            Err(error) => batch_search_result::Result::Error(convert::item_error(error)),
        };
        BatchSearchResult { result: Some(result) }
    }
}

#[tonic::async_trait]
impl SearchService for Service {
    async fn search(&self, request: Request<SearchRequest>) -> Result<Response<SearchResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let deadline = pass.deadline;
        pass.run(self.search_one(request.into_inner(), deadline)).await.map(Response::new)
    }

    async fn batch_search(
        &self,
        request: Request<BatchSearchRequest>,
    ) -> Result<Response<BatchSearchResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let deadline = pass.deadline;
        let searches = request.into_inner().searches;
        convert::search_batch(&searches).map_err(status)?;
        let timeline = Timeline::around();
        let work = async {
            let items = stream::iter(searches).map(|search| self.batch_item(search, deadline));
            Ok(items.buffered(BATCH_CONCURRENCY).collect().await)
        };
        let results = pass.run(work).await?;
        Ok(Response::new(BatchSearchResponse { results, timings: convert::timings(&timeline) }))
    }

    async fn rerank(&self, request: Request<RerankRequest>) -> Result<Response<RerankResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let deadline = pass.deadline;
        let reranking = convert::rerank(request.into_inner(), deadline).map_err(status)?;
        let ids: Vec<_> = reranking.items.iter().map(item_id).collect();
        let mut timeline = Timeline::start();
        let (ranked, steps) = pass.run(self.searcher.rerank(reranking, &mut timeline)).await?;
        let result = |r: crate::search::Reranked| RerankResult {
            index: r.index as u32,
            score: r.score,
            id: ids[r.index].clone(),
        };
        Ok(Response::new(RerankResponse {
            results: ranked.into_iter().map(result).collect(),
            timings: convert::timings(&timeline),
            degraded: steps.iter().any(|step| step.degraded.is_some()),
            rerank_steps: steps.into_iter().map(convert::rerank_step).collect(),
        }))
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<EmbedResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let deadline = pass.deadline;
        let (texts, purpose) = convert::embed(request.into_inner()).map_err(status)?;
        let mut timeline = Timeline::start();
        let embedded = pass.run(self.searcher.embed(texts, purpose, deadline, &mut timeline)).await?;
        Ok(Response::new(EmbedResponse {
            embeddings: embedded.into_iter().map(embedding).collect(),
            model: self.searcher.model_name().to_owned(),
            timings: convert::timings(&timeline),
        }))
    }
}

fn item_id(item: &RerankItem) -> String {
    match item {
        RerankItem::Text(_) => String::new(),
        RerankItem::Document(id) => id.to_string(),
    }
}

fn embedding(embedded: Embedded) -> Embedding {
    let values = embedded.vector.map(|vector| vector.as_slice().to_vec()).unwrap_or_default();
    Embedding { values, tokens: embedded.tokens, tokens_cut: embedded.tokens_cut }
}
