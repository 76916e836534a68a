//! Brings the engine in step with the store: fills an empty one, and catches up with what another process wrote.

use tokio::sync::mpsc;

use crate::domain::{ChunkId, Vector};
use crate::engine::{Change, IdSet, VectorEngine};
use crate::error::Result;
use crate::store::Store;

/// Vectors fetched at a time: 4,096 of 384 coordinates are 6 MiB.
const BATCH: usize = 4_096;
/// Batches that may wait for the engine: 12.6 MB each at 384 coordinates.
const BATCHES_WAITING: usize = 8;

/// Adds to the engine what it lacks and removes what is gone. What is added becomes visible before what it replaces goes,
/// so that a document is never lost in between; a hit whose chunk is gone is left out when it is read.
pub(super) async fn synchronise(store: &Store, engine: &dyn VectorEngine) -> Result<()> {
    if engine.ids().is_empty() {
        return fill(store, engine).await;
    }
    let (stored, held) = (store.embedded_chunks().await?, engine.ids());
    let lacking: IdSet = &stored - &held;
    let mut chunks = lacking.iter().map(ChunkId).peekable();
    while chunks.peek().is_some() {
        let batch = chunks.by_ref().take(BATCH).collect();
        engine.apply(Change { added: store.vectors(batch).await?, removed: Vec::new() }).await?;
    }
    let removed: Vec<ChunkId> = (&held - &stored).iter().map(ChunkId).collect();
    match removed.is_empty() {
        true => Ok(()),
        false => engine.apply(Change { added: Vec::new(), removed }).await,
    }
}

/// Readers of the store deliver in parallel; what has come meanwhile goes to the engine at once, which then works on it in
/// parallel too.
async fn fill(store: &Store, engine: &dyn VectorEngine) -> Result<()> {
    let (batches, mut incoming) = mpsc::channel::<Vec<(ChunkId, Vector)>>(BATCHES_WAITING);
    // On the store's blocking threads. When the engine has failed there is nobody to send to, and the scan runs out.
    let scan = store.scan_vectors(move |batch| drop(batches.blocking_send(batch)));
    let apply = async {
        let mut waiting = Vec::new();
        while incoming.recv_many(&mut waiting, BATCHES_WAITING).await > 0 {
            let added = waiting.drain(..).flatten().collect();
            engine.apply(Change { added, removed: Vec::new() }).await?;
        }
        Ok(())
    };
    tokio::try_join!(scan, apply).map(|_| ())
}
