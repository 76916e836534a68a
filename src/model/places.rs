//! Where things that come with the service are looked for: near the binary, then near the working folder.

use std::path::{Path, PathBuf};

/// Models of an installed package.
const SYSTEM_FOLDER: &str = "/usr/share/amalfa";

/// Returns the folder that holds the binary.
pub(super) fn binary_folder() -> Option<PathBuf> {
    Some(std::env::current_exe().ok()?.parent()?.to_path_buf())
}

/// Returns the first existing `relative` in the binary's folder, any folder above it, the current folder or the system's.
pub(super) fn find(relative: &Path) -> Option<PathBuf> {
    let binary = binary_folder().unwrap_or_default();
    let current = std::env::current_dir().ok();
    let folders = binary.ancestors().map(Path::to_path_buf).chain(current).chain([PathBuf::from(SYSTEM_FOLDER)]);
    folders.filter(|folder| folder.is_absolute()).map(|folder| folder.join(relative)).find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_above_the_binary_is_found() {
        let found = find(Path::new("Cargo.toml")).unwrap();
        assert_eq!(found, Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    }

    #[test]
    fn what_lies_nowhere_is_not_found() {
        assert_eq!(find(Path::new("no-such-thing-anywhere")), None);
    }
}
