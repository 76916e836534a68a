//! Start, health, reflection, stop, start again.

use amalfa::app::App;
use amalfa::model::Model;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_response::MessageResponse};

use crate::support::{DIMENSION, Server, config, document};

#[tokio::test(flavor = "multi_thread")]
async fn health_serves_until_the_signal_and_watchers_are_told() {
    let server = Server::start().await;
    let mut client = HealthClient::new(server.channel.clone());
    for service in ["", "amalfa.v1.SearchService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let mut watch = client.watch(request).await.unwrap().into_inner();
        // The first answers may still be of the moment before the server was ready.
        while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    assert_eq!(server.get("/readyz").await.0, 200);
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let stopping = tokio::spawn(server.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    drop((watch, client));
    stopping.await.unwrap().1.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stored_is_there_after_a_restart() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra crossing"), document("b", "violin sonata")]).await;
    let (folder, ended) = server.stop().await;
    ended.unwrap();
    let wal = folder.path().join("amalfa.db-wal");
    assert!(!wal.exists() || wal.metadata().unwrap().len() == 0, "the log was not checkpointed");
    let server = Server::in_folder(folder, Some(Model::arithmetic(DIMENSION)), |_| {}).await;
    assert_eq!(server.find("violin").await[0], "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_model_is_refused_with_the_way_out() {
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra")]).await;
    let (folder, _) = server.stop().await;
    let config = config(&folder, |_| {});
    let metrics = amalfa::telemetry::init(&config.telemetry).unwrap().metrics();
    let refused = App::with_model(config, Model::arithmetic(DIMENSION / 2), metrics).await;
    let message = refused.err().expect("another model's index is not served").to_string();
    assert!(message.contains("dimension") && message.contains("amalfa reembed"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_told_before_anything_is_loaded() {
    let server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, |config| config.grpc.address = server.grpc);
    let metrics = amalfa::telemetry::init(&config.telemetry).unwrap().metrics();
    let message = App::build(config, metrics).await.err().unwrap().to_string();
    assert!(message.contains("cannot listen") && message.contains("--listen"), "{message}");
    assert!(!folder.path().join("amalfa.db").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_reachable_from_outside_needs_an_explicit_word() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(&folder, |config| config.grpc.address = "0.0.0.0:0".parse().unwrap());
    let metrics = amalfa::telemetry::init(&config.telemetry).unwrap().metrics();
    let message = App::build(config, metrics).await.err().unwrap().to_string();
    assert!(message.contains("allow_remote"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    let server = Server::start().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(server.channel.clone());
    let stream = client.server_reflection_info(tokio_stream::iter([request])).await.unwrap();
    let response = stream.into_inner().message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = response else { panic!("{response:?}") };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for expected in
        ["amalfa.v1.SearchService", "amalfa.v1.IndexService", "amalfa.v1.AdminService", "grpc.health.v1.Health"]
    {
        assert!(names.iter().any(|name| name == expected), "{expected} is not in {names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_writes_is_found_without_a_restart() {
    use amalfa::app::Core;
    let server = Server::start().await;
    server.upsert(vec![document("a", "zebra")]).await;
    let config = config(&server.folder, |_| {});
    let store = amalfa::store::Store::open(&config.store).unwrap();
    let other = Core::compose(&config, store, Model::arithmetic(DIMENSION)).await.unwrap();
    let document = amalfa::domain::Document {
        id: amalfa::domain::DocumentId::parse("id", "b").unwrap(),
        source: "b".to_owned(),
        title: String::new(),
        text: "a violin sonata".to_owned(),
        date: None,
        kind: None,
        domain: None,
        metadata: serde_json::Map::new(),
    };
    other.indexer.upsert(document).await.unwrap();
    let found = async {
        while server.find("violin").await.first().map(String::as_str) != Some("b") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), found).await.expect("the server did not notice");
}
