//! The figures as JSON and as a page for people.

use std::fmt::Write;

use serde::Serialize;

use crate::grpc::Grpc;
use crate::measure::Row;

#[derive(Debug, Serialize)]
pub struct Report {
    pub cpu: String,
    pub cores: usize,
    pub kernels: String,
    pub load_average: String,
    pub sizes: Vec<Size>,
    pub curve: Vec<Point>,
}

/// One point of the curve of costs: originals on disk, every core idle, recall against the exact mode.
#[derive(Debug, Serialize)]
pub struct Point {
    pub vectors: usize,
    pub p50_ms: f64,
    pub recall_at_10: f64,
    pub heap_bytes_per_vector: f64,
}

/// Everything measured with one number of vectors.
#[derive(Debug, Serialize)]
pub struct Size {
    pub vectors: usize,
    pub origin: String,
    pub rows: Vec<Row>,
    pub bytes_beyond_f32_per_vector: f64,
    pub vectors_compared_exactly_mean: f64,
    pub load: Load,
    pub restart: Restart,
    pub throughput: Throughput,
    pub grpc: Option<Grpc>,
}

/// Adding all vectors in batches of 1,000.
#[derive(Debug, Serialize)]
pub struct Load {
    pub total_s: f64,
    pub slowest_batch_ms: f64,
    pub last_batch_ms: f64,
    pub first_search_after_ms: f64,
}

/// From a SQLite file to the first answer.
#[derive(Debug, Serialize)]
pub struct Restart {
    pub first_answer_s: f64,
}

/// Eight clients at once against one on one thread.
#[derive(Debug, Serialize)]
pub struct Throughput {
    pub one_thread_per_s: f64,
    pub clients_8_per_s: f64,
    pub share_of_cores: f64,
}

impl Report {
    /// Returns the page.
    pub fn markdown(&self) -> String {
        let mut page = String::from("# The engine against its peers\n\n");
        let _ = writeln!(
            page,
            "Written by `make bench-engine`. {} ({} cores, kernels: {}); load average at the start: {}. Top 10, 384 \
             coordinates; contestants in turns, medians; the last column compares medians with the first row.\n",
            self.cpu, self.cores, self.kernels, self.load_average
        );
        for size in &self.sizes {
            size.write(&mut page, self.cores);
        }
        page.push_str("## How cost grows\n\nOriginals mapped from files, every core; recall against the exact mode, 20 queries.\n\n");
        page.push_str("| vectors | p50 ms | recall@10 | heap bytes a vector |\n|---|---|---|---|\n");
        for point in &self.curve {
            let Point { vectors, p50_ms, recall_at_10, heap_bytes_per_vector } = point;
            let _ = writeln!(page, "| {vectors} | {p50_ms:.3} | {recall_at_10:.4} | {heap_bytes_per_vector:.1} |");
        }
        page.push_str(WHY_NO_GRAPH);
        page
    }
}

const WHY_NO_GRAPH: &str = "
## Why there is no graph

At 10,000 and 100,000 vectors every graph above is slower than the default mode, none finds more, and each is ready only \
after seconds. A graph's time grows with the logarithm of the number of vectors and a scan's with the number, so somewhere beyond a \
million a graph would answer sooner on one thread; it would still have to be built for minutes after the last upsert, hold its \
edges in memory, and lose filters and recall. Graphs of a million were not measured here. Until somebody needs ten million \
vectors in less than the time that the curve shows, there is none.
";

impl Size {
    fn write(&self, page: &mut String, cores: usize) {
        let _ = writeln!(page, "## {} vectors\n\n{}.\n", self.vectors, self.origin);
        let _ = writeln!(page, "| engine | p50 ms | p95 ms | recall@10 | ready after s | × first row |");
        let _ = writeln!(page, "|---|---|---|---|---|---|");
        let first = self.rows.first().map_or(f64::NAN, |row| row.p50_ms);
        for row in &self.rows {
            let _ = writeln!(
                page,
                "| {} | {:.3} | {:.3} | {:.4} | {:.1} | {:.1} |",
                row.name,
                row.p50_ms,
                row.p95_ms,
                row.recall_at_10,
                row.ready_s,
                row.p50_ms / first
            );
        }
        let (load, throughput) = (&self.load, &self.throughput);
        let _ = writeln!(
            page,
            "\n- {:.1} bytes a vector beyond the f32 original; {:.0} vectors compared exactly in the mean.\n\
             - Added in batches of 1,000: {:.2} s in all, slowest batch {:.1} ms, last {:.1} ms, first search after it \
             {:.2} ms.\n- From a SQLite file to the first answer: {:.2} s.\n\
             - 8 clients: {:.0} queries/s; one on one thread: {:.0} (× {cores} cores: {:.0} %).\n",
            self.bytes_beyond_f32_per_vector,
            self.vectors_compared_exactly_mean,
            load.total_s,
            load.slowest_batch_ms,
            load.last_batch_ms,
            load.first_search_after_ms,
            self.restart.first_answer_s,
            throughput.clients_8_per_s,
            throughput.one_thread_per_s,
            throughput.share_of_cores * 100.0,
        );
        self.grpc.iter().for_each(|grpc| grpc.write(page));
    }
}
