//! Memory: the allocator of the whole process, what it holds, and what the operating system sees.

use tikv_jemalloc_ctl::{epoch, stats};
use tikv_jemallocator::Jemalloc;

/// jemalloc, for C code (ONNX Runtime, SQLite) too, which calls the unprefixed `malloc`. It stands in the library so that
/// tests and benchmarks measure what the binary runs on.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// What the allocator holds, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heap {
    /// Asked for and not given back.
    pub allocated: u64,
    /// In pages that hold allocations.
    pub active: u64,
    /// In pages that may be in memory.
    pub resident: u64,
    /// Address space kept without memory behind it.
    pub retained: u64,
    /// For the allocator itself.
    pub metadata: u64,
}

/// Reads the allocator's statistics (60 µs); `None` if it does not answer.
pub fn heap() -> Option<Heap> {
    epoch::advance().ok()?; // the figures are snapshots of the last epoch
    Some(Heap {
        allocated: stats::allocated::read().ok()? as u64,
        active: stats::active::read().ok()? as u64,
        resident: stats::resident::read().ok()? as u64,
        retained: stats::retained::read().ok()? as u64,
        metadata: stats::metadata::read().ok()? as u64,
    })
}

/// Reads the resident set size of this process; `None` where the system does not tell.
pub fn rss_bytes() -> Option<u64> {
    metrics_process::collector::collect().resident_memory_bytes
}

/// Reads the highest resident set size that this process has had; `None` where the system does not tell.
///
/// Source: proc_pid_status(5), `VmHWM`.
pub fn rss_bytes_max() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_shows_in_the_heap_and_in_the_resident_set() {
        let held = std::hint::black_box(vec![1_u8; 64 << 20]);
        let heap = heap().unwrap();
        assert!(heap.allocated >= 64 << 20 && heap.active >= heap.allocated, "{heap:?}");
        let rss = rss_bytes().unwrap();
        assert!(rss >= 64 << 20);
        // Linux counts pages per thread and adds them up now and then: two readings differ by as much.
        assert!(rss_bytes_max().unwrap() + (16 << 20) >= rss);
        drop(held);
    }
}
