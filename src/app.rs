//! The whole service, composed in one place: the only module that knows every part.
//!
//! Life: bind → store → model → engine → SERVING → signal → NOT_SERVING → drain → stop the background → checkpoint.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::admin::Admin;
use crate::api;
use crate::config::Config;
use crate::engine::{FlatEngine, VectorEngine};
use crate::error::{Error, Result};
use crate::health::{Health, State};
use crate::ingest::Indexer;
use crate::model::{CrossEncoder, Llm, Model};
use crate::search::{Rerankers, Searcher};
use crate::store::Store;
use crate::telemetry::Metrics;

/// How often the store is asked whether another process has written.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(250);
/// How often the parts are asked how they are, and how long they may take to say.
const WATCH: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(2));
/// The parts that health follows.
const PARTS: [&str; 3] = ["store", "model", "indexer"];

/// Everything that answers searches and takes documents, without a network.
#[derive(Clone)]
pub struct Core {
    /// The database.
    pub store: Store,
    /// The model.
    pub model: Model,
    /// The vectors.
    pub engine: Arc<dyn VectorEngine>,
    /// Answers searches.
    pub searcher: Searcher,
    /// Takes documents.
    pub indexer: Indexer,
}

impl Core {
    /// Opens or makes the store, loads the model, fills the engine.
    ///
    /// # Errors
    ///
    /// `Setup` with advice for what an operator must mend: no ONNX Runtime, no model, another model's index, a damaged
    /// database.
    pub async fn build(config: &Config) -> Result<Self> {
        let store = open_store(config).await?;
        Self::compose(config, store, load_model(config).await?).await
    }

    /// As [`Core::build`], of a database that is there already.
    pub async fn open(config: &Config) -> Result<Self> {
        let path = &config.store.path;
        if !path.exists() {
            let message = format!("there is no database at {}", path.display());
            return Err(Error::setup(message, "make one with `amalfa ingest PATH…`, or name another with --db"));
        }
        Self::build(config).await
    }

    /// Puts an engine, a searcher and an indexer around an open store and a loaded model.
    pub async fn compose(config: &Config, store: Store, model: Model) -> Result<Self> {
        let engine: Arc<dyn VectorEngine> = Arc::new(FlatEngine::new(&config.engine, model.identity().dimension)?);
        let indexer = Indexer::new(&config.ingest, store.clone(), model.clone(), Some(engine.clone()))?;
        indexer.check_model().await?;
        indexer.synchronise().await?;
        let searcher = Searcher::new(&config.search, store.clone(), engine.clone(), model.clone())?;
        let searcher = searcher.with_rerankers(load_rerankers(config).await?);
        Ok(Self { store, model, engine, searcher, indexer })
    }

    /// Optimises and checkpoints the database.
    pub async fn close(self) -> Result<()> {
        Writer { store: self.store, indexer: self.indexer }.close().await
    }
}

/// What fills a database without answering searches: no engine, no vectors in memory.
pub struct Writer {
    store: Store,
    /// Takes documents.
    pub indexer: Indexer,
}

impl Writer {
    /// Opens or makes the store and loads the model.
    ///
    /// # Errors
    ///
    /// As [`Core::build`], but for another model's index, which every use of the indexer checks itself.
    pub async fn build(config: &Config) -> Result<Self> {
        let store = open_store(config).await?;
        let indexer = Indexer::new(&config.ingest, store.clone(), load_model(config).await?, None)?;
        Ok(Self { store, indexer })
    }

    /// Finishes what is under way, optimises and checkpoints the database.
    pub async fn close(self) -> Result<()> {
        let Self { store, indexer } = self;
        let stopped = indexer.stop().await;
        let closed = blocking(move || store.close()).await;
        stopped.and(closed)
    }
}

/// Opens or makes the database.
pub async fn open_store(config: &Config) -> Result<Store> {
    let config = config.store.clone();
    blocking(move || Store::open(&config)).await
}

/// Loads the model.
pub async fn load_model(config: &Config) -> Result<Model> {
    let config = config.model.clone();
    blocking(move || Model::load(&config)).await
}

/// Loads the cross-encoder and makes ready for the language model, where they are configured.
async fn load_rerankers(config: &Config) -> Result<Rerankers> {
    let (cross_encoder, onnxruntime) = (config.cross_encoder.clone(), config.model.onnxruntime.clone());
    let cross_encoder = blocking(move || CrossEncoder::load(&cross_encoder, onnxruntime.as_deref())).await?;
    Ok(Rerankers { config: config.rerank.clone(), cross_encoder, llm: Llm::new(&config.llm)? })
}

/// A service that is bound and loaded, ready to run.
pub struct App {
    core: Core,
    health: Health,
    grpc: api::Server,
    admin: Admin,
}

impl App {
    /// Binds both listeners, then builds the parts: a port in use is told before a model is loaded.
    ///
    /// # Errors
    ///
    /// As [`Core::build`], and `Setup` for an address that cannot or must not be bound.
    pub async fn build(config: Config, metrics: Metrics) -> Result<Self> {
        let bound = Self::bind(&config, metrics).await?;
        let core = Core::build(&config).await?;
        Ok(bound.around(core))
    }

    /// As [`App::build`], with a model that is loaded already.
    pub async fn with_model(config: Config, model: Model, metrics: Metrics) -> Result<Self> {
        let bound = Self::bind(&config, metrics).await?;
        let core = Core::compose(&config, open_store(&config).await?, model).await?;
        Ok(bound.around(core))
    }

    async fn bind(config: &Config, metrics: Metrics) -> Result<Bound> {
        let health = Health::new(&PARTS);
        let admin = Admin::bind(&config.admin, metrics, health.clone()).await?;
        Ok(Bound { health, admin, grpc: api::Server::bind(&config.grpc).await? })
    }

    /// Returns the address of the gRPC server.
    pub fn grpc_address(&self) -> SocketAddr {
        self.grpc.address()
    }

    /// Returns the address of the HTTP listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// Serves until `shutdown` is cancelled, then drains and closes.
    pub async fn run(self, shutdown: CancellationToken) -> Result<()> {
        let Self { core, health, grpc, admin } = self;
        let background = CancellationToken::new();
        let admin = tokio::spawn(admin.serve(background.clone()));
        let watch = tokio::spawn(watch(core.clone(), health.clone(), background.clone()));
        let indexer = core.indexer.clone();
        let stop = background.clone();
        let follow = tokio::spawn(async move { indexer.follow(FOLLOW_INTERVAL, stop).await });
        let parts = api::Parts { searcher: core.searcher.clone(), indexer: core.indexer.clone(), health };
        let served = grpc.run(parts, shutdown).await;
        background.cancel();
        for task in [admin, watch, follow] {
            task.await.map_err(|e| Error::internal("a background task panicked", e))?;
        }
        served.and(core.close().await)
    }
}

/// Listeners without a service behind them.
struct Bound {
    health: Health,
    grpc: api::Server,
    admin: Admin,
}

impl Bound {
    fn around(self, core: Core) -> App {
        let Self { health, grpc, admin } = self;
        health.report("store", State::Serving);
        health.report("indexer", State::Serving);
        health.report("model", model_state(&core));
        App { core, health, grpc, admin }
    }
}

/// Asks the parts how they are, again and again.
async fn watch(core: Core, health: Health, stop: CancellationToken) {
    let (interval, timeout) = WATCH;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(interval) => {}
        }
        health.report("model", model_state(&core));
        health.report("indexer", indexer_state(&core.indexer));
        health.report(
            "store",
            match core.store.ping(timeout).await {
                Ok(()) => State::Serving,
                Err(error) => State::Down(error.chain()),
            },
        );
    }
}

fn model_state(core: &Core) -> State {
    match &core.model.self_test().warning {
        _ if !core.model.healthy() => State::Down("a model thread has ended; restart the service".to_owned()),
        // Searches still answer, in the order before it.
        _ if !core.searcher.rerankers_healthy() => {
            State::Degraded("a thread of the cross-encoder has ended; restart the service".to_owned())
        }
        Some(warning) => State::Degraded(warning.clone()),
        None => State::Serving,
    }
}

fn indexer_state(indexer: &Indexer) -> State {
    match indexer.healthy() {
        true => State::Serving,
        false => State::Down("the task that commits documents has ended; restart the service".to_owned()),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|e| Error::internal("start-up panicked", e))?
}
