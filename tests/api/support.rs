//! A server for one test, and the clients to it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::LazyLock;

use amalfa::api::proto::admin_service_client::AdminServiceClient;
use amalfa::api::proto::index_service_client::IndexServiceClient;
use amalfa::api::proto::search_service_client::SearchServiceClient;
use amalfa::api::proto::{self, Document, SearchRequest, UpsertRequest, UpsertResponse, search_request::Query};
use amalfa::app::App;
use amalfa::config::Config;
use amalfa::error::Result;
use amalfa::model::Model;
use amalfa::tools::traces::Receiver;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// Coordinates of the arithmetic model's vectors.
pub const DIMENSION: usize = 256;

/// Outlives the runtime of any one test: what all tests of this process share runs here.
static SHARED: LazyLock<Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Telemetry is one per process, so all servers export to one receiver; tests tell traces apart by their ids.
static RECEIVER: LazyLock<Receiver> = LazyLock::new(|| {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let start = || SHARED.block_on(Receiver::start(any, CancellationToken::new()));
    std::thread::scope(|scope| scope.spawn(start).join().unwrap().unwrap())
});

/// Returns the receiver of every server's spans.
pub async fn receiver() -> Receiver {
    tokio::task::spawn_blocking(|| RECEIVER.clone()).await.unwrap()
}

/// A running server with a database of its own; it stops when dropped.
pub struct Server {
    pub folder: TempDir,
    pub channel: Channel,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
    telemetry: amalfa::telemetry::Config,
    shutdown: CancellationToken,
    running: Option<JoinHandle<Result<()>>>,
}

impl Server {
    /// Starts a server with the arithmetic model.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// Starts a server with the arithmetic model and changed settings.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::in_folder(folder, Some(Model::arithmetic(DIMENSION)), change).await
    }

    /// Starts a server with the bundled model.
    pub async fn start_with_bundled_model() -> Self {
        let change = |config: &mut Config| config.model.sessions = 2;
        Self::in_folder(tempfile::tempdir().unwrap(), None, change).await
    }

    pub async fn in_folder(folder: TempDir, model: Option<Model>, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = config(&folder, change);
        config.telemetry.otlp_endpoint = Some(format!("http://{}", receiver().await.address()));
        config.telemetry.otlp_protocol = Some(amalfa::telemetry::OtlpProtocol::Grpc);
        let telemetry = config.telemetry.clone();
        let metrics = tokio::task::spawn_blocking({
            let telemetry = telemetry.clone();
            move || amalfa::telemetry::init(&telemetry).unwrap().metrics()
        });
        let metrics = metrics.await.unwrap();
        let app = match model {
            Some(model) => App::with_model(config, model, metrics).await.unwrap(),
            None => App::build(config, metrics).await.unwrap(),
        };
        let (grpc, admin) = (app.grpc_address(), app.admin_address());
        let shutdown = CancellationToken::new();
        let running = Some(tokio::spawn(app.run(shutdown.clone())));
        let channel = Channel::from_shared(format!("http://{grpc}")).unwrap().connect().await.unwrap();
        Self { folder, channel, grpc, admin, telemetry, shutdown, running }
    }

    pub fn search(&self) -> SearchServiceClient<Channel> {
        SearchServiceClient::new(self.channel.clone())
    }

    pub fn index(&self) -> IndexServiceClient<Channel> {
        IndexServiceClient::new(self.channel.clone())
    }

    pub fn admin_service(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    /// Stores documents; returns what became of each.
    pub async fn upsert(&self, documents: Vec<Document>) -> Vec<UpsertResponse> {
        let requests = documents.into_iter().map(|document| UpsertRequest { document: Some(document) });
        let stream = self.index().upsert(tokio_stream::iter(requests.collect::<Vec<_>>())).await.unwrap();
        let mut stream = stream.into_inner();
        let mut responses = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            responses.push(response);
        }
        responses
    }

    /// Searches for a text and returns the ids of the hits.
    pub async fn find(&self, text: &str) -> Vec<String> {
        let hits = self.search().search(text_query(text)).await.unwrap().into_inner().hits;
        hits.into_iter().map(|hit| hit.id).collect()
    }

    /// Exports the spans that wait.
    pub async fn flush(&self) {
        let telemetry = self.telemetry.clone();
        let flush = move || amalfa::telemetry::init(&telemetry).unwrap().flush();
        assert!(tokio::task::spawn_blocking(flush).await.unwrap(), "the receiver did not take the spans");
    }

    /// Returns what an HTTP GET of the admin listener answers: status and body.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.admin, path).await
    }

    /// Stops the server as a signal does; returns its folder and how it ended.
    pub async fn stop(mut self) -> (TempDir, Result<()>) {
        self.shutdown.cancel();
        let ended = self.running.take().unwrap().await.unwrap();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        (folder, ended)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

/// Returns settings for a test: port 0 everywhere, the database in the folder.
pub fn config(folder: &TempDir, change: impl FnOnce(&mut Config)) -> Config {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let mut config = Config::default();
    config.grpc.address = any;
    config.admin.address = any;
    config.store.path = folder.path().join("amalfa.db");
    change(&mut config);
    config
}

pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    let response = String::from_utf8(response).unwrap();
    let status = response.split(' ').nth(1).unwrap().parse().unwrap();
    let body = response.split_once("\r\n\r\n").unwrap().1;
    (status, body.to_owned())
}

pub fn text_query(text: &str) -> SearchRequest {
    SearchRequest { query: Some(Query::Text(text.to_owned())), ..SearchRequest::default() }
}

pub fn document(id: &str, text: &str) -> Document {
    Document { id: id.to_owned(), text: text.to_owned(), ..Document::default() }
}

/// Returns a status's code, its ErrorInfo reason and the field that its BadRequest names.
pub fn details(status: &Status) -> (Code, String, Option<String>) {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error carries an ErrorInfo");
    assert_eq!(info.domain, "amalfa");
    let field = details.bad_request().map(|bad| bad.field_violations[0].field.clone());
    (status.code(), info.reason.clone(), field)
}

pub fn outcome(response: &UpsertResponse) -> proto::UpsertOutcome {
    response.outcome()
}
