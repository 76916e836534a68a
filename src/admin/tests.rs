//! The listener over real connections.

use super::*;
use crate::health::State as Part;
use crate::telemetry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const PORT_0: &str = "127.0.0.1:0";

fn config(address: &str) -> Config {
    Config { address: address.parse().unwrap(), allow_remote: false }
}

fn metrics() -> Metrics {
    telemetry::init(&telemetry::Config::default()).unwrap().metrics()
}

struct Running {
    address: SocketAddr,
    health: Health,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

async fn running() -> Running {
    let (health, stop) = (Health::new(&["store", "model"]), CancellationToken::new());
    let admin = Admin::bind(&config(PORT_0), metrics(), health.clone()).await.unwrap();
    Running { address: admin.address(), health, stop: stop.clone(), task: tokio::spawn(admin.serve(stop)) }
}

async fn exchange(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // A server that has refused may close before it has read all.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn get(address: SocketAddr, path: &str) -> String {
    exchange(address, format!("GET {path} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n").as_bytes()).await
}

#[tokio::test]
async fn metrics_come_as_text() {
    let admin = running().await;
    let answer = get(admin.address, "/metrics").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{answer}");
    assert!(answer.contains("\namalfa_build_info{version="), "{answer}");
}

#[tokio::test]
async fn a_scraper_that_asks_for_openmetrics_gets_it() {
    let admin = running().await;
    let accept = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
    let head = format!("GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\naccept: {accept}\r\n\r\n");
    let answer = exchange(admin.address, head.as_bytes()).await;
    assert!(answer.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{answer}");
    assert!(answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test]
async fn readiness_follows_the_parts() {
    let admin = running().await;
    assert!(get(admin.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    assert!(get(admin.address, "/readyz").await.starts_with("HTTP/1.1 503"));
    admin.health.report("store", Part::Serving);
    admin.health.report("model", Part::Degraded("slow".into()));
    let answer = get(admin.address, "/readyz").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(
        answer.ends_with(
            r#"{"parts":{"model":{"message":"slow","status":"degraded"},"store":{"status":"serving"}},"ready":true}"#
        ),
        "{answer}"
    );
}

#[tokio::test]
async fn unknown_paths_methods_and_oversized_heads_are_refused() {
    let admin = running().await;
    assert!(get(admin.address, "/debug").await.starts_with("HTTP/1.1 404"));
    let posted = exchange(admin.address, b"POST /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(posted.starts_with("HTTP/1.1 405"), "{posted}");
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(2 * HEAD_BYTES_MAX));
    let answer = exchange(admin.address, long.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn it_stops_when_told_although_a_connection_is_open() {
    let admin = running().await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    assert!(get(admin.address, "/healthz").await.starts_with("HTTP/1.1 200"));
    admin.stop.cancel();
    admin.task.await.unwrap();
    assert_eq!(idle.read(&mut [0]).await.unwrap_or(0), 0);
    assert!(TcpStream::connect(admin.address).await.is_err());
}

#[tokio::test]
async fn a_remote_address_needs_consent_and_a_taken_port_gets_advice() {
    let bind = async |config: Config| Admin::bind(&config, metrics(), Health::new(&[])).await;
    let error = bind(config("0.0.0.0:0")).await.unwrap_err();
    assert!(matches!(&error, Error::Setup { advice, .. } if advice.contains("allow_remote")), "{error}");
    let remote = bind(Config { allow_remote: true, ..config("0.0.0.0:0") }).await.unwrap();
    assert_ne!(remote.address().port(), 0);
    let first = bind(config(PORT_0)).await.unwrap();
    let error = bind(config(&first.address().to_string())).await.unwrap_err();
    assert!(matches!(&error, Error::Setup { advice, .. } if advice.contains("admin.address")), "{error}");
}
