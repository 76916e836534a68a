//! Discovery: PATH arguments → the files to read, what their sources are called, and which stored documents they speak for.

use std::collections::HashSet;
use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use ignore::WalkBuilder;

use super::Failure;
use crate::error::{Error, Result};

/// Extensions of files that are one document.
pub(super) const TEXT_EXTENSIONS: [&str; 4] = ["md", "markdown", "mdx", "txt"];
/// Extension of files with a document per line.
const LINES_EXTENSION: &str = "jsonl";

/// How files are called: by their path relative to a base folder, or by their absolute path when they are not in it.
#[derive(Debug, Clone)]
pub(super) struct Naming {
    base: PathBuf,
}

/// A file to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SourceFile {
    pub path: PathBuf,
    pub source: String,
    pub format: Format,
}

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// One document, Markdown or plain.
    Text,
    /// A JSON object per line, each a document.
    Lines,
}

/// What the PATHs of a job lead to.
#[derive(Debug, Default)]
pub(super) struct Discovered {
    /// Each file once, in the order of the PATHs, then by name.
    pub files: Vec<SourceFile>,
    /// What could not be found or walked.
    pub failures: Vec<Failure>,
    present: HashSet<String>,
    scopes: Vec<Scope>,
    unreadable: Vec<PathBuf>,
}

/// Which stored documents a PATH speaks for: one of them that was not found is gone.
#[derive(Debug)]
enum Scope {
    File(PathBuf),
    Folder(PathBuf),
    Glob(GlobMatcher),
}

impl Naming {
    /// Returns the naming for sources relative to `base`, the current folder when `None`.
    pub fn new(base: Option<&Path>) -> Result<Self> {
        let current = std::env::current_dir().map_err(|error| {
            Error::setup(format!("cannot tell the current folder: {error}"), "run from another one")
        })?;
        Ok(Self { base: lexical(&current.join(base.unwrap_or(Path::new("")))) })
    }

    fn absolute(&self, path: impl AsRef<Path>) -> PathBuf {
        lexical(&self.base.join(path))
    }

    /// Returns the source of an absolute path, with `/` between folders; `None` when it is not Unicode.
    fn source(&self, path: &Path) -> Option<String> {
        let named = path.strip_prefix(&self.base).unwrap_or(path);
        let parts = named.components().map(|part| match part {
            Component::RootDir => Some(""),
            part => part.as_os_str().to_str(),
        });
        Some(parts.collect::<Option<Vec<_>>>()?.join("/"))
    }

    /// Returns the path of the file that a source is, or is a line of; `None` for a URL.
    fn path(&self, source: &str) -> Option<PathBuf> {
        (!source.contains("://")).then(|| self.absolute(file_of(source)))
    }
}

/// Returns the file's source of a line's source: `a.jsonl` of `a.jsonl#42`. Others are files themselves.
pub(super) fn file_of(source: &str) -> &str {
    source.find(".jsonl#").map_or(source, |at| &source[..at + ".jsonl".len()])
}

/// Whether a source is a line of a JSON Lines file.
pub(super) fn is_line(source: &str) -> bool {
    file_of(source).len() < source.len()
}

/// Finds the files of `paths`. Blocking. A PATH that is gone speaks for the documents that `stored` (the sources of the
/// index) has of it; without one it is a failure.
pub(super) fn discover<'s>(
    paths: &[String],
    naming: &Naming,
    stored: impl Iterator<Item = &'s str> + Clone,
) -> Discovered {
    let mut discovered = Discovered::default();
    for given in paths {
        let path = naming.absolute(given);
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => discovered.walk(naming, Scope::Folder(path.clone()), &path, given),
            Ok(_) => discovered.file(naming, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                discovered.absent(naming, path, given, stored.clone());
            }
            Err(error) => discovered.fail(given, format!("cannot be read: {error}")),
        }
    }
    discovered
}

impl Discovered {
    /// Whether the stored document with this source should have been found and was not.
    pub fn lacks(&self, naming: &Naming, source: &str) -> bool {
        !self.present.contains(file_of(source)) && self.speaks_for(naming, source)
    }

    /// Whether a file with this source was found, readable or not.
    fn speaks_for(&self, naming: &Naming, source: &str) -> bool {
        let Some(path) = naming.path(source) else { return false };
        let in_scope = |scope: &Scope| match scope {
            Scope::File(file) => path == *file,
            // What has another extension was put there by a client or by its full name.
            Scope::Folder(folder) => path.starts_with(folder) && format_of(&path).is_some(),
            Scope::Glob(glob) => glob.is_match(&path) && format_of(&path).is_some(),
        };
        self.scopes.iter().any(in_scope) && !self.unreadable.iter().any(|folder| path.starts_with(folder))
    }

    fn fail(&mut self, source: impl Into<String>, reason: impl Into<String>) {
        self.failures.push(Failure { source: source.into(), reason: reason.into() });
    }

    fn absent<'s>(&mut self, naming: &Naming, path: PathBuf, given: &str, stored: impl Iterator<Item = &'s str>) {
        if given.contains(['*', '?', '[', '{']) {
            return self.glob(naming, &path, given);
        }
        if !stored.into_iter().any(|source| naming.path(source).is_some_and(|stored| stored == path)) {
            return self.fail(given, "does not exist; check the path");
        }
        self.scopes.push(Scope::File(path));
    }

    fn glob(&mut self, naming: &Naming, pattern: &Path, given: &str) {
        let parsed = pattern.to_str().map(|pattern| GlobBuilder::new(pattern).literal_separator(true).build());
        let glob = match parsed {
            Some(Ok(glob)) => glob.compile_matcher(),
            Some(Err(error)) => return self.fail(given, format!("is not a glob: {}", error.kind())),
            None => return self.fail(given, "is not Unicode"),
        };
        let literal = |part: &Component| !part.as_os_str().to_string_lossy().contains(['*', '?', '[', '{']);
        let root: PathBuf = pattern.components().take_while(literal).collect();
        let before = self.present.len();
        match root.is_dir() {
            true => self.walk(naming, Scope::Glob(glob), &root, given),
            false => self.fail(given, format!("matches nothing: there is no folder {}", root.display())),
        }
        if self.present.len() == before && self.failures.is_empty() {
            self.fail(given, "matches no Markdown, text or JSON Lines file; check the pattern");
        }
    }

    /// Adds a file that was named itself: any extension will do.
    fn file(&mut self, naming: &Naming, path: PathBuf) {
        let format = format_of(&path).unwrap_or(Format::Text);
        self.add(naming, &path, format);
        self.scopes.push(Scope::File(path));
    }

    fn add(&mut self, naming: &Naming, path: &Path, format: Format) {
        match naming.source(path) {
            Some(source) if self.present.insert(source.clone()) => {
                self.files.push(SourceFile { path: path.to_owned(), source, format });
            }
            Some(_) => {}
            None => self.fail(path.to_string_lossy(), "its name is not Unicode; rename it"),
        }
    }

    fn walk(&mut self, naming: &Naming, scope: Scope, root: &Path, given: &str) {
        // An index must not depend on whether there is a `.git`, nor on the user's own ignore file.
        let mut walk = WalkBuilder::new(root);
        walk.follow_links(true).require_git(false).git_global(false).sort_by_file_path(Path::cmp);
        for entry in walk.build() {
            match entry {
                Ok(entry) => {
                    let wanted = match &scope {
                        Scope::Glob(glob) => glob.is_match(entry.path()),
                        _ => true,
                    };
                    // Neither a folder nor a pipe called `a.md` is a document, but a pipe is worth a word later.
                    let folder = entry.file_type().is_some_and(|kind| kind.is_dir());
                    if let Some(format) = format_of(entry.path()).filter(|_| wanted && !folder) {
                        self.add(naming, entry.path(), format);
                    }
                }
                Err(error) => {
                    let path = path_of(&error).unwrap_or(root).to_owned();
                    let source = naming.source(&path).unwrap_or_else(|| given.to_owned());
                    self.fail(source, format!("cannot be walked: {}", reason_of(&error)));
                    self.unreadable.push(path);
                }
            }
        }
        self.scopes.push(scope);
    }
}

fn format_of(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        LINES_EXTENSION => Some(Format::Lines),
        extension => TEXT_EXTENSIONS.contains(&extension).then_some(Format::Text),
    }
}

/// Returns a path without `.` and `..`, by its words alone: what a link leads to does not change what a file is called.
fn lexical(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                plain.pop();
            }
            part => plain.push(part),
        }
    }
    plain
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::Loop { child, .. } => Some(child),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => path_of(err),
        ignore::Error::Partial(errors) => errors.first().and_then(path_of),
        _ => None,
    }
}

/// Returns why, without the path, which the failure names already.
fn reason_of(error: &ignore::Error) -> String {
    match error {
        ignore::Error::Loop { ancestor, .. } => {
            format!("it links back to {}; remove the link", ancestor.display())
        }
        ignore::Error::WithPath { err, .. } | ignore::Error::WithDepth { err, .. } => reason_of(err),
        error => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
