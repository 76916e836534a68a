//! Bad input over the wire: a clear status each, and nothing lost.

use std::time::Duration;

use amalfa::api::proto::search_request::Query;
use amalfa::api::proto::{ListDocumentsRequest, RerankDocument, RerankRequest, SearchRequest, Vector, rerank_document};
use tonic::{Code, Request};

use crate::support::{DIMENSION, Server, details, document, text_query};

#[tokio::test(flavor = "multi_thread")]
async fn bad_searches_name_the_field() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra")]).await;
    let vector = |values| SearchRequest { query: Some(Query::Vector(Vector { values })), ..SearchRequest::default() };
    let mut not_a_number = vec![0.5; DIMENSION];
    not_a_number[3] = f32::NAN;
    let cases = [
        (SearchRequest::default(), "query"),
        (text_query(""), "query.text"),
        (text_query(&"x".repeat(1 << 20)), "query.text"),
        (SearchRequest { limit: Some(0), ..text_query("a") }, "limit"),
        (SearchRequest { limit: Some(1_000_000), ..text_query("a") }, "limit"),
        (vector(not_a_number), "query.vector"),
        (vector(vec![1.0; 3]), "query.vector"),
        (vector(vec![0.0; DIMENSION]), "query.vector"),
    ];
    for (request, field) in cases {
        let status = server.search().search(request).await.unwrap_err();
        assert_eq!(details(&status), (Code::InvalidArgument, "INVALID_FIELD".to_owned(), Some(field.to_owned())));
    }
    assert_eq!(server.find("zebra").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_ids_are_not_found() {
    let server = Server::start().await;
    let request = SearchRequest { query: Some(Query::DocumentId("nobody".to_owned())), ..SearchRequest::default() };
    assert_eq!(details(&server.search().search(request).await.unwrap_err()).0, Code::NotFound);
    let id = rerank_document::Document::Id("nobody".to_owned());
    let documents = vec![RerankDocument { document: Some(id) }];
    let request = RerankRequest { query: "a".to_owned(), documents, ..RerankRequest::default() };
    assert_eq!(details(&server.search().rerank(request).await.unwrap_err()).0, Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_of_another_listing_is_refused() {
    let server = Server::start().await;
    for request in [
        ListDocumentsRequest { page_token: "made up".to_owned(), ..ListDocumentsRequest::default() },
        ListDocumentsRequest { page_size: -1, ..ListDocumentsRequest::default() },
    ] {
        let status = server.index().list_documents(request).await.unwrap_err();
        assert_eq!(details(&status).0, Code::InvalidArgument);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_beyond_the_limit_is_refused_and_the_server_goes_on() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra")]).await;
    let status = server.search().search(text_query(&"x".repeat(9 << 20))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
    assert_eq!(server.find("zebra").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_deadline_ends_the_request() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra")]).await;
    let mut request = Request::new(text_query("zebra"));
    request.set_timeout(Duration::from_nanos(1));
    let status = server.search().search(request).await.unwrap_err();
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
    assert_eq!(server.find("zebra").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_server_refuses_with_a_time_to_retry() {
    use tonic_types::StatusExt;
    let server = Server::start_with(|config| config.grpc.requests_max = 0).await;
    let status = server.search().search(text_query("zebra")).await.unwrap_err();
    assert_eq!(details(&status).0, Code::ResourceExhausted);
    assert!(status.get_error_details().retry_info().is_some());
}
