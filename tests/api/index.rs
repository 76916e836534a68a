//! Upsert, GetDocument, ListDocuments, DeleteDocument and GetStats.

use amalfa::api::proto::{
    DeleteDocumentRequest, GetDocumentRequest, GetStatsRequest, ListDocumentsRequest, UpsertOutcome,
};
use tonic::Code;

use crate::support::{Server, details, document, outcome};

#[tokio::test(flavor = "multi_thread")]
async fn an_answered_document_is_found_by_the_next_search() {
    let server = Server::start().await;
    let responses = server.upsert(vec![document("a", "zebra crossing"), document("b", "traffic light")]).await;
    assert_eq!(responses.iter().map(|r| r.index).collect::<Vec<_>>(), [0, 1]);
    assert!(responses.iter().all(|r| outcome(r) == UpsertOutcome::Created && r.chunks == 1));
    assert_eq!(server.find("zebra").await[0], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_replaces_and_a_repetition_changes_nothing() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra crossing"), document("b", "violin")]).await;
    let again = server.upsert(vec![document("a", "zebra crossing"), document("b", "piano sonata")]).await;
    assert_eq!(again.iter().map(outcome).collect::<Vec<_>>(), [UpsertOutcome::Unchanged, UpsertOutcome::Updated]);
    assert_eq!(server.find("piano sonata").await[0], "b");
    let stats = server.admin_service().get_stats(GetStatsRequest {}).await.unwrap().into_inner();
    let (store, engine) = (stats.store.unwrap(), stats.engine.unwrap());
    assert_eq!((store.documents, store.embeddings, engine.vectors), (2, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_document_does_not_stop_the_stream() {
    let server = Server::start().await;
    let mut dated = document("dated", "text");
    dated.date = "yesterday".to_owned();
    let responses = server.upsert(vec![document("", "no id"), dated, document("good", "a lighthouse")]).await;
    let outcomes: Vec<_> = responses.iter().map(outcome).collect();
    assert_eq!(outcomes, [UpsertOutcome::Failed, UpsertOutcome::Failed, UpsertOutcome::Created]);
    assert!(responses[1].error.as_ref().unwrap().message.contains("document.date"));
    assert_eq!(server.find("lighthouse").await, ["good"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_comes_back_as_it_was_given() {
    let server = Server::start().await;
    let text = format!("# Title\n\n{}\n\n## Next\n\nend — ünïcode\n", "word sentence. ".repeat(600));
    let mut given = document("whole", &text);
    given.r#type = "guide".to_owned();
    given.date = "2026-02-03".to_owned();
    given.metadata = Some(prost_types::Struct {
        fields: [("level".to_owned(), prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(3.0)) })]
            .into(),
    });
    server.upsert(vec![given.clone()]).await;
    let response =
        server.index().get_document(GetDocumentRequest { id: "whole".to_owned() }).await.unwrap().into_inner();
    let (document, info) = (response.document.unwrap(), response.info.unwrap());
    assert_eq!(document.text, text);
    assert_eq!((document.title.as_str(), document.source.as_str()), ("Title", "whole"));
    assert_eq!((document.r#type, document.date, document.metadata), (given.r#type, given.date, given.metadata));
    assert!(info.chunks > 1 && info.content_hash.len() == 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_document_is_gone_at_once() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra"), document("b", "violin")]).await;
    let request = DeleteDocumentRequest { id: "a".to_owned() };
    server.index().delete_document(request.clone()).await.unwrap();
    assert_eq!(server.find("zebra").await, ["b"]);
    let status = server.index().delete_document(request).await.unwrap_err();
    assert_eq!(details(&status).0, Code::NotFound);
    let status = server.index().get_document(GetDocumentRequest { id: "a".to_owned() }).await.unwrap_err();
    assert_eq!(details(&status).0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_document_once_in_order() {
    let server = Server::start().await;
    let documents = (0..25).map(|n| document(&format!("doc{n:02}"), &format!("text number{n}"))).collect();
    server.upsert(documents).await;
    let mut seen = Vec::new();
    let mut request = ListDocumentsRequest { page_size: 10, ..ListDocumentsRequest::default() };
    loop {
        let page = server.index().list_documents(request.clone()).await.unwrap().into_inner();
        assert_eq!(page.total_size, 25);
        seen.extend(page.documents.into_iter().map(|listed| listed.document.unwrap().id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, (0..25).map(|n| format!("doc{n:02}")).collect::<Vec<_>>());
}
