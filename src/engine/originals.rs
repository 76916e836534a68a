//! The vectors of a segment as they came: in memory, or in a file that the operating system pages in and out.
//!
//! Ten million vectors of 384 coordinates are 15 GB; their sketches, which every search reads, 0.6 GB. Where that much memory
//! is dear, the originals, of which a search reads a few hundred, may live on disk.
#![allow(unsafe_code)] // mapping a file, see `map`

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::Mmap;

/// Coordinates, row after row.
#[derive(Debug)]
pub enum Originals {
    /// On the heap.
    Memory(Box<[f32]>),
    /// In a file without a name, which goes with the last use of it.
    Mapped(Mmap),
}

impl Originals {
    /// Returns `values` on the heap.
    pub fn in_memory(values: Vec<f32>) -> Self {
        Self::Memory(values.into_boxed_slice())
    }

    /// Returns `values` in a file in `folder`; on the heap, with a warning, when that fails.
    pub fn mapped_in(folder: &Path, values: Vec<f32>) -> Self {
        match map(folder, &values) {
            Ok(mapped) => Self::Mapped(mapped),
            Err(error) => {
                tracing::warn!(%error, "could not map vectors into a file; they stay in memory");
                Self::in_memory(values)
            }
        }
    }

    /// Returns the coordinates.
    #[inline]
    pub fn as_slice(&self) -> &[f32] {
        match self {
            Self::Memory(values) => values,
            // SAFETY: any four bytes are an f32; a mapping starts at a page and so is aligned: prefix and suffix are empty.
            Self::Mapped(bytes) => unsafe { bytes.align_to::<f32>().1 },
        }
    }

    /// Returns the heap bytes held.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Memory(values) => size_of_val(&**values),
            Self::Mapped(_) => 0,
        }
    }
}

/// Writes values to a new file, takes its name away and maps it.
fn map(folder: &Path, values: &[f32]) -> io::Result<Mmap> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let name = format!(".amalfa-vectors-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let path = folder.join(name);
    let mut file = File::options().read(true).write(true).create_new(true).open(&path)?;
    // Nobody else can open it from here on, and no crash leaves it behind.
    std::fs::remove_file(&path)?;
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_ne_bytes()).collect();
    file.write_all(&bytes)?;
    // SAFETY: the file has no name and this process no other handle to it, so its bytes never change nor shrink. They
    // were all written, not left to be allocated later, so a full disk is an error here and not a signal later.
    unsafe { Mmap::map(&file) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_vectors_are_the_same_and_leave_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let values: Vec<f32> = (0..5_000).map(|at| at as f32 / 7.0).collect();
        let mapped = Originals::mapped_in(folder.path(), values.clone());
        assert_eq!(mapped.as_slice(), values);
        assert_eq!(mapped.heap_bytes(), 0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn without_a_folder_vectors_stay_in_memory() {
        let kept = Originals::mapped_in(Path::new("/nowhere/at/all"), vec![1.0, 2.0]);
        assert_eq!((kept.as_slice(), kept.heap_bytes()), (&[1.0, 2.0][..], 8));
    }
}
