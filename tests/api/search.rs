//! Search, BatchSearch, Rerank and Embed.

use amalfa::api::proto::search_request::Query;
use amalfa::api::proto::{
    AnyOf, BatchSearchRequest, Condition, EmbedPurpose, EmbedRequest, Filter, Fusion, LexicalSyntax, Range,
    RerankDocument, RerankMode, RerankRequest, RetrievalMode, SearchRequest, SearchResponse, Vector,
    batch_search_result, condition, rerank_document,
};
use prost_types::value::Kind;

use crate::support::{DIMENSION, Server, details, document, text_query};

fn value(text: &str) -> prost_types::Value {
    prost_types::Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

fn filtered(text: &str, field: &str, test: condition::Test) -> SearchRequest {
    let filter = Filter { all: vec![Condition { field: field.to_owned(), test: Some(test) }] };
    SearchRequest { filter: Some(filter), ..text_query(text) }
}

async fn fruit() -> Server {
    let server = Server::start().await;
    let mut apple = document("apple", "# Apple\n\nThe apple is a red fruit of autumn.");
    apple.r#type = "pome".to_owned();
    apple.date = "2026-09-01".to_owned();
    let mut pear = document("pear", "# Pear\n\nThe pear is a green fruit of autumn.");
    pear.r#type = "pome".to_owned();
    pear.date = "2026-10-01".to_owned();
    let mut stone = document("granite", "# Granite\n\nGranite is a hard rock made of feldspar.");
    stone.r#type = "rock".to_owned();
    let responses = server.upsert(vec![apple, pear, stone]).await;
    assert!(responses.iter().all(|r| r.error.is_none()), "{responses:?}");
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_finds_its_document_first_with_names_and_timings() {
    let server = fruit().await;
    let response = server.search().search(text_query("hard rock of feldspar")).await.unwrap().into_inner();
    let hit = &response.hits[0];
    assert_eq!((hit.id.as_str(), hit.title.as_str(), hit.r#type.as_str()), ("granite", "Granite", "rock"));
    assert!(hit.snippet.contains("feldspar"));
    assert!(response.hits.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let timings = response.timings.unwrap();
    let stages: Vec<_> = timings.stages.iter().map(|s| s.stage.as_str()).collect();
    assert_eq!(stages, ["embed", "lexical", "retrieve", "fuse", "hydrate", "other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn filters_leave_only_what_meets_them() {
    let server = fruit().await;
    let any_of = condition::Test::AnyOf(AnyOf { values: vec![value("rock")] });
    let range = condition::Test::Range(Range { from: Some(value("2026-09-15")), to: None });
    for (field, test, expected) in [
        ("type", any_of, vec!["granite"]),
        ("date", range, vec!["pear"]),
        ("date", condition::Test::Exists(false), vec!["granite"]),
    ] {
        let response = server.search().search(filtered("a red fruit", field, test)).await.unwrap().into_inner();
        assert_eq!(response.hits.iter().map(|h| h.id.as_str()).collect::<Vec<_>>(), expected, "{field}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_like_this_leaves_the_document_itself_out() {
    let server = fruit().await;
    let request = SearchRequest { query: Some(Query::DocumentId("apple".to_owned())), ..SearchRequest::default() };
    let hits = server.search().search(request).await.unwrap().into_inner().hits;
    assert_eq!(hits[0].id, "pear");
    assert!(hits.iter().all(|hit| hit.id != "apple"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vector_of_ours_finds_its_own_text() {
    let server = fruit().await;
    let request = EmbedRequest { texts: vec!["green pear".to_owned()], purpose: EmbedPurpose::Query.into() };
    let embedding = server.search().embed(request).await.unwrap().into_inner().embeddings.remove(0);
    assert_eq!(embedding.values.len(), DIMENSION);
    let query = Some(Query::Vector(Vector { values: embedding.values.iter().map(|v| v * 7.0).collect() }));
    let by_vector =
        server.search().search(SearchRequest { query, ..SearchRequest::default() }).await.unwrap().into_inner();
    let dense = SearchRequest { retrieval_mode: RetrievalMode::Dense.into(), ..text_query("green pear") };
    let by_text = server.search().search(dense).await.unwrap().into_inner();
    assert_eq!(by_vector.hits.len(), by_text.hits.len());
    for (a, b) in by_vector.hits.iter().zip(&by_text.hits) {
        assert_eq!(a.id, b.id);
        assert!((a.score - b.score).abs() < 1e-5, "{} ≠ {}", a.score, b.score);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_document_takes_one_place_and_the_limit_is_kept() {
    let server = Server::start().await;
    let section = |n: usize| format!("## Part {n}\n\n{}\n\n", format!("whale sea ship number{n} ").repeat(60));
    let mut documents = vec![document("long", &(0..40).map(section).collect::<String>())];
    documents.extend((0..12).map(|n| document(&format!("short{n}"), &format!("a whale and a garden number{n}"))));
    server.upsert(documents).await;
    for mode in [RetrievalMode::Dense, RetrievalMode::Lexical, RetrievalMode::Hybrid] {
        let request = SearchRequest { passages: Some(3), ..text_query("whale sea ship") };
        let request = SearchRequest { retrieval_mode: mode.into(), ..request };
        let hits = server.search().search(request).await.unwrap().into_inner().hits;
        assert_eq!(hits.len(), 10, "{mode:?}");
        let long: Vec<_> = hits.iter().filter(|hit| hit.id == "long").collect();
        assert_eq!(long.len(), 1, "{mode:?}");
        let further = &long[0].further_passages;
        assert_eq!(further.len(), 2, "{mode:?}");
        assert!(further.iter().all(|passage| passage.chunk != long[0].chunk && passage.score <= long[0].score));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_answers_each_search_on_its_own() {
    let server = fruit().await;
    let wrong = SearchRequest { limit: Some(0), ..text_query("a pear") };
    let request = BatchSearchRequest { searches: vec![text_query("a green pear"), wrong] };
    let results = server.search().batch_search(request).await.unwrap().into_inner().results;
    match (&results[0].result, &results[1].result) {
        (Some(batch_search_result::Result::Response(found)), Some(batch_search_result::Result::Error(error))) => {
            assert_eq!(found.hits[0].id, "pear");
            assert_eq!(error.code, tonic::Code::InvalidArgument as i32);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_model_reranks_by_meaning() {
    let server = Server::start_with_bundled_model().await;
    let text = |text: &str| RerankDocument { document: Some(rerank_document::Document::Text(text.to_owned())) };
    server.upsert(vec![document("tcp", "TCP delivers bytes in order and retransmits what was lost.")]).await;
    let by_id = RerankDocument { document: Some(rerank_document::Document::Id("tcp".to_owned())) };
    let request = RerankRequest {
        query: "how does the network protocol handle packet loss".to_owned(),
        documents: vec![text("Bread rises because yeast makes gas."), text("The museum opens at nine."), by_id],
        ..RerankRequest::default()
    };
    let response = server.search().rerank(request).await.unwrap().into_inner();
    assert_eq!(response.results.len(), 3);
    assert_eq!((response.results[0].index, response.results[0].id.as_str()), (2, "tcp"));
    assert!(response.results.windows(2).all(|pair| pair[0].score >= pair[1].score));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bundled_model_finds_by_meaning_and_explains_the_rerank() {
    let server = Server::start_with_bundled_model().await;
    let texts = [
        ("memory", "Every value has one owner, and memory is freed when the owner goes out of scope."),
        ("scrape", "A scrape configuration says which targets are polled for metrics and how often."),
        ("soup", "Simmer the onions slowly, then add stock and thyme."),
    ];
    server.upsert(texts.iter().map(|(id, text)| document(id, text)).collect()).await;
    assert_eq!(server.find("who releases allocated storage").await[0], "memory");
    assert_eq!(server.find("collecting monitoring data periodically").await[0], "scrape");
    let request = SearchRequest {
        rerank_mode: RerankMode::LateInteraction.into(),
        explain: true,
        ..text_query("cooking vegetables")
    };
    let response = server.search().search(request).await.unwrap().into_inner();
    let hit = &response.hits[0];
    let explanation = hit.explanation.as_ref().unwrap();
    assert_eq!(hit.id, "soup");
    assert_eq!(explanation.reranked[0].score, hit.score);
    assert_eq!(explanation.rank, 1);
    assert!(response.timings.unwrap().stages.iter().any(|stage| stage.stage == "rerank"));
}

async fn found(server: &Server, mode: RetrievalMode, text: &str) -> SearchResponse {
    let request = SearchRequest { retrieval_mode: mode.into(), explain: true, ..text_query(text) };
    server.search().search(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_search_finds_what_only_words_and_what_only_meaning_find() {
    let server = Server::start_with_bundled_model().await;
    let texts = [
        ("relay", "Part QX7731 belongs behind the left panel. Tighten it by hand."),
        ("valve", "Part KT2209 belongs behind the right panel. Tighten it with the wrench."),
        ("memory", "Every value has one owner, and memory is freed when the owner goes out of scope."),
        ("soup", "Simmer the onions slowly, then add stock and thyme."),
    ];
    server.upsert(texts.iter().map(|(id, text)| document(id, text)).collect()).await;
    let rare = "which number has KT2209";
    let paraphrase = "releasing allocated storage automatically";
    assert!(found(&server, RetrievalMode::Lexical, paraphrase).await.hits.is_empty());
    let lexical = found(&server, RetrievalMode::Lexical, rare).await;
    assert_eq!(lexical.hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["valve"]);
    assert!(lexical.timings.unwrap().stages.iter().all(|stage| stage.stage != "embed"), "words need no model");
    for (text, expected) in [(rare, "valve"), (paraphrase, "memory")] {
        assert_eq!(found(&server, RetrievalMode::Hybrid, text).await.hits[0].id, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hybrid_search_explains_where_its_scores_come_from() {
    let server = fruit().await;
    let response = found(&server, RetrievalMode::Unspecified, "hard rock of feldspar").await;
    let retrieval = response.retrieval.unwrap();
    assert_eq!((retrieval.mode(), retrieval.fusion()), (RetrievalMode::Hybrid, Fusion::Convex));
    assert_eq!((retrieval.passages, retrieval.dense_candidates, retrieval.lexical_candidates), (3, 3, 1));
    let explanation = response.hits[0].explanation.clone().unwrap();
    let (dense, lexical) = (explanation.dense.unwrap(), explanation.lexical.unwrap());
    assert_eq!((dense.rank, lexical.rank, explanation.fused.unwrap().rank), (1, 1, 1));
    assert_eq!(explanation.fused.unwrap().score, response.hits[0].score);
    assert!(response.hits[0].score > dense.score / 2.0 && lexical.score > 0.0);
    let last = response.hits[2].explanation.clone().unwrap();
    assert!(last.lexical.is_none() && last.fused.unwrap().score == response.hits[2].score);
}

#[tokio::test(flavor = "multi_thread")]
async fn weight_fusion_and_filter_are_the_requests_own() {
    let server = fruit().await;
    let search = |change: fn(&mut SearchRequest)| {
        let mut request = text_query("granite of autumn");
        change(&mut request);
        let mut client = server.search();
        async move { client.search(request).await.unwrap().into_inner().hits }
    };
    assert_eq!(search(|r| r.dense_weight = Some(0.0)).await[0].id, "granite", "the rarer word");
    let rrf = search(|r| r.fusion = Fusion::Rrf.into()).await;
    assert!(rrf[0].score > 0.9 && rrf.windows(2).all(|pair| pair[0].score >= pair[1].score));
    let pome = filtered("granite of autumn", "type", condition::Test::AnyOf(AnyOf { values: vec![value("pome")] }));
    for mode in [RetrievalMode::Lexical, RetrievalMode::Hybrid] {
        let request = SearchRequest { retrieval_mode: mode.into(), ..pome.clone() };
        let hits = server.search().search(request).await.unwrap().into_inner().hits;
        assert_eq!(hits.len(), 2, "{mode:?}");
        assert!(hits.iter().all(|hit| hit.r#type == "pome"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_is_understood_or_refused_by_name() {
    let server = fruit().await;
    let search = |text: &str| {
        let request = SearchRequest {
            retrieval_mode: RetrievalMode::Lexical.into(),
            lexical_syntax: LexicalSyntax::Fts5.into(),
            ..text_query(text)
        };
        let mut client = server.search();
        async move { client.search(request).await }
    };
    let hits = search("fruit NOT title: pear").await.unwrap().into_inner().hits;
    assert_eq!(hits.iter().map(|hit| hit.id.as_str()).collect::<Vec<_>>(), ["apple"]);
    let (code, _, field) = details(&search("fruit AND (").await.unwrap_err());
    assert_eq!((code, field.as_deref()), (tonic::Code::InvalidArgument, Some("query.text")));
}
