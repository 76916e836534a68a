//! The IndexService.

use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::Instrument;

use super::convert::PageToken;
use super::gate::{Gate, Pass};
use super::proto::index_service_server::IndexService;
use super::proto::{
    DeleteDocumentRequest, DeleteDocumentResponse, GetDocumentRequest, GetDocumentResponse, ListDocumentsRequest,
    ListDocumentsResponse, ListedDocument, UpsertOutcome, UpsertRequest, UpsertResponse,
};
use super::{convert, status::status};
use crate::domain::DocumentId;
use crate::error::Result;
use crate::ingest::Indexer;
use crate::search::Searcher;

/// Documents of one stream that are worked on at a time; the client is read no faster.
const STREAM_CONCURRENCY: usize = 16;

pub(super) struct Service {
    pub searcher: Searcher,
    pub indexer: Indexer,
    pub gate: Gate,
}

#[tonic::async_trait]
impl IndexService for Service {
    type UpsertStream = ReceiverStream<Result<UpsertResponse, Status>>;

    async fn upsert(&self, request: Request<Streaming<UpsertRequest>>) -> Result<Response<Self::UpsertStream>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let (sender, receiver) = mpsc::channel(STREAM_CONCURRENCY);
        let stream = upsert_all(self.indexer.clone(), request.into_inner(), sender, pass);
        tokio::spawn(stream.in_current_span());
        Ok(Response::new(ReceiverStream::new(receiver)))
    }

    async fn get_document(
        &self,
        request: Request<GetDocumentRequest>,
    ) -> Result<Response<GetDocumentResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let id = DocumentId::parse("id", request.into_inner().id).map_err(status)?;
        let (record, text) = pass.run(self.searcher.document(id)).await?;
        let (document, info) = convert::listed(record, text);
        Ok(Response::new(GetDocumentResponse { document: Some(document), info: Some(info) }))
    }

    async fn list_documents(
        &self,
        request: Request<ListDocumentsRequest>,
    ) -> Result<Response<ListDocumentsResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let response = pass.run(list(&self.searcher, request.into_inner())).await?;
        Ok(Response::new(response))
    }

    async fn delete_document(
        &self,
        request: Request<DeleteDocumentRequest>,
    ) -> Result<Response<DeleteDocumentResponse>, Status> {
        let pass = self.gate.enter(request.metadata())?;
        let id = DocumentId::parse("id", request.into_inner().id).map_err(status)?;
        pass.run(self.indexer.delete(id)).await?;
        Ok(Response::new(DeleteDocumentResponse {}))
    }
}

async fn list(searcher: &Searcher, request: ListDocumentsRequest) -> Result<ListDocumentsResponse> {
    let size = convert::page_size(request.page_size)?;
    let filter = convert::filter(request.filter)?;
    let after = convert::page_token(&request.page_token, &filter)?;
    let page = searcher.documents(filter.clone(), after, size).await?;
    let listed = |record| {
        let (document, info) = convert::listed(record, String::new());
        ListedDocument { document: Some(document), info: Some(info) }
    };
    Ok(ListDocumentsResponse {
        documents: page.documents.into_iter().map(listed).collect(),
        next_page_token: page.next_after.map(|id| PageToken::write(&id, &filter)).unwrap_or_default(),
        total_size: page.total,
    })
}

/// Works through a stream; answers in its order. When the client goes, so does what was not yet committed; the edges of
/// what was are woven all the same.
async fn upsert_all(
    indexer: Indexer,
    requests: Streaming<UpsertRequest>,
    answers: mpsc::Sender<Result<UpsertResponse, Status>>,
    _pass: Pass,
) {
    let work = requests.enumerate().map(|(index, request)| {
        let indexer = indexer.clone();
        async move { Ok(upsert_one(&indexer, index as u64, request?).await) }
    });
    let mut work = std::pin::pin!(work.buffered(STREAM_CONCURRENCY));
    while let Some(answer) = work.next().await {
        let broken = answer.is_err();
        if answers.send(answer).await.is_err() || broken {
            break;
        }
    }
    if let Err(error) = indexer.weave().await {
        let _ = answers.send(Err(status(error))).await;
    }
}

async fn upsert_one(indexer: &Indexer, index: u64, request: UpsertRequest) -> UpsertResponse {
    let id = request.document.as_ref().map(|document| document.id.clone()).unwrap_or_default();
    let upserted = async { indexer.upsert(convert::document(request.document)?).await };
    let (outcome, chunks, error) = match upserted.await {
        Ok(upserted) => (convert::outcome(upserted.outcome), upserted.chunks, None),
        Err(error) => (UpsertOutcome::Failed, 0, Some(convert::item_error(error))),
    };
    UpsertResponse { index, id, outcome: outcome.into(), chunks, error }
}
