//! Sync: each file and line against what is stored; only what is new or changed goes on.

use std::collections::{HashMap, HashSet};
use std::io::BufReader;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::json_lines::{self, Lines};
use super::prepare::{Draft, Preparer};
use super::sources::{Discovered, Format, Naming, SourceFile, file_of, is_line};
use super::tally::{Done, Tally};
use super::{Failure, read};
use crate::domain::{Document, DocumentId};
use crate::store::Known;

/// What is to be done with a document.
#[derive(Debug)]
pub(super) enum Step {
    /// Embed and store it.
    Store(Box<Draft>),
    /// Call it otherwise.
    Rename { from: DocumentId, to: DocumentId, source: String },
}

/// Where it works and whom it tells.
pub(super) struct Context {
    pub naming: Naming,
    pub preparer: Preparer,
    pub tally: Arc<Tally>,
    pub file_bytes_max: u64,
    pub keep_missing: bool,
    pub cancel: CancellationToken,
}

/// Compares all that was discovered with what is stored. Blocking. Returns the documents that are gone; none when it was
/// cancelled, because then it has not seen everything.
pub(super) fn run(
    context: Context,
    discovered: &Discovered,
    known: Vec<Known>,
    out: mpsc::Sender<Step>,
) -> Vec<DocumentId> {
    let mut sync = Sync::new(context, discovered, known, out);
    for file in &discovered.files {
        if sync.stopped() {
            return Vec::new();
        }
        match file.format {
            Format::Text => sync.file(file),
            Format::Lines => sync.lines(file),
        }
    }
    sync.gone()
}

struct Sync<'d> {
    context: Context,
    discovered: &'d Discovered,
    /// By source.
    known: HashMap<String, Known>,
    /// Source by id.
    owners: HashMap<DocumentId, String>,
    /// Sources of documents whose file is gone, by their hash.
    missing: HashMap<String, Vec<String>>,
    /// Sources that were found, or whose document was taken over.
    seen: HashSet<String>,
    /// JSON Lines files that were read to the end without a failure.
    complete: HashSet<String>,
    out: mpsc::Sender<Step>,
}

impl<'d> Sync<'d> {
    fn new(context: Context, discovered: &'d Discovered, known: Vec<Known>, out: mpsc::Sender<Step>) -> Self {
        let mut missing: HashMap<String, Vec<String>> = HashMap::new();
        if !context.keep_missing {
            for known in known.iter().filter(|known| discovered.lacks(&context.naming, &known.source)) {
                missing.entry(known.content_hash.clone()).or_default().push(known.source.clone());
            }
        }
        Self {
            owners: known.iter().map(|known| (known.id.clone(), known.source.clone())).collect(),
            known: known.into_iter().map(|known| (known.source.clone(), known)).collect(),
            missing,
            seen: HashSet::new(),
            complete: HashSet::new(),
            context,
            discovered,
            out,
        }
    }

    /// Whether nobody waits for more.
    fn stopped(&self) -> bool {
        self.context.cancel.is_cancelled() || self.out.is_closed()
    }

    fn fail(&self, source: impl Into<String>, reason: impl Into<String>) {
        self.context.tally.failed(Failure { source: source.into(), reason: reason.into() });
    }

    fn file(&mut self, file: &SourceFile) {
        self.seen.insert(file.source.clone());
        if let Err(reason) = self.sync_file(file) {
            self.fail(&file.source, reason);
        }
    }

    fn sync_file(&mut self, file: &SourceFile) -> Result<(), String> {
        let bytes = read::bytes(&file.path, self.context.file_bytes_max)?;
        let hash = self.context.preparer.hash(&bytes);
        if self.unchanged(&file.source, &hash) {
            return Ok(());
        }
        let document = read::document(&file.source, &bytes)?;
        // A title or a day that is taken from the file's name changes with it.
        let keeps = |before: &str| {
            read::document(before, &bytes).is_ok_and(|was| was.title == document.title && was.date == document.date)
        };
        let renamed = self.renamed(&document, &hash, keeps);
        self.pass_on(document, hash, renamed)
    }

    fn lines(&mut self, file: &SourceFile) {
        match self.read_lines(file) {
            Ok(true) => drop(self.complete.insert(file.source.clone())),
            Ok(false) => {}
            Err(reason) => self.fail(&file.source, reason),
        }
    }

    /// Returns whether every line was read and none failed.
    fn read_lines(&mut self, file: &SourceFile) -> Result<bool, String> {
        let reader = BufReader::with_capacity(1 << 16, read::open(&file.path)?);
        let mut lines = Lines::new(reader, self.context.file_bytes_max);
        let mut whole = true;
        while let Some((number, line)) = lines.next()? {
            if self.stopped() {
                return Ok(false);
            }
            self.context.tally.found(1);
            if let Err(reason) = line.and_then(|line| self.line(file, line)) {
                whole = false;
                self.fail(format!("{}:{number}", file.source), reason);
            }
        }
        Ok(whole)
    }

    fn line(&mut self, file: &SourceFile, line: &[u8]) -> Result<(), String> {
        let document = json_lines::document(&file.source, line)?;
        if !self.seen.insert(document.source.clone()) {
            return Err(format!("id {:?} is on an earlier line already; ids are unique", document.id.as_str()));
        }
        let hash = self.context.preparer.hash_document(&document);
        if self.unchanged(&document.source, &hash) {
            return Ok(());
        }
        let renamed = self.renamed(&document, &hash, |_| true);
        self.pass_on(document, hash, renamed)
    }

    fn unchanged(&self, source: &str, hash: &str) -> bool {
        let same = self.known.get(source).is_some_and(|known| known.content_hash == hash);
        if same {
            self.context.tally.done(Done::Unchanged, source);
        }
        same
    }

    /// Returns the id of a document that is gone and was this one. Its own id's former owner comes first.
    fn renamed(&mut self, document: &Document, hash: &str, keeps: impl Fn(&str) -> bool) -> Option<DocumentId> {
        if self.known.contains_key(&document.source) {
            return None;
        }
        let candidates = self.missing.get_mut(hash)?;
        let owner = self.owners.get(&document.id);
        if owner.is_some_and(|owner| !candidates.contains(owner)) {
            return None;
        }
        let at = candidates.iter().position(|source| owner.is_none_or(|owner| owner == source) && keeps(source))?;
        let before = candidates.swap_remove(at);
        let known = self.known.get(&before)?;
        self.seen.insert(before);
        Some(known.id.clone())
    }

    fn pass_on(&mut self, document: Document, hash: String, renamed: Option<DocumentId>) -> Result<(), String> {
        if let Some(from) = renamed {
            self.owners.insert(document.id.clone(), document.source.clone());
            return self.send(Step::Rename { from, to: document.id, source: document.source });
        }
        self.claim(&document)?;
        let draft = self.context.preparer.draft(document, hash).map_err(|error| error.chain())?;
        self.send(Step::Store(Box::new(draft)))
    }

    /// Checks that neither the id nor the source is another document's; that of a document that is gone may be taken.
    fn claim(&mut self, document: &Document) -> Result<(), String> {
        if let Some(known) = self.known.get(&document.source)
            && known.id != document.id
        {
            return Err(format!("is stored already, as document {:?}; delete that first", known.id.as_str()));
        }
        let owner = self.owners.insert(document.id.clone(), document.source.clone());
        let Some(owner) = owner.filter(|owner| *owner != document.source) else { return Ok(()) };
        let gone = !self.context.keep_missing && self.discovered.lacks(&self.context.naming, &owner);
        if gone && self.seen.insert(owner.clone()) {
            return Ok(());
        }
        let reason = format!("id {:?} already belongs to {owner:?}; give it another id", document.id.as_str());
        self.owners.insert(document.id.clone(), owner);
        Err(reason)
    }

    fn send(&self, step: Step) -> Result<(), String> {
        // Whoever closed the channel knows why and tells it.
        self.out.blocking_send(step).or(Ok(()))
    }

    fn gone(self) -> Vec<DocumentId> {
        if self.stopped() || self.context.keep_missing {
            return Vec::new();
        }
        let line_gone = |source: &str| is_line(source) && self.complete.contains(file_of(source));
        let gone = |known: &&Known| {
            !self.seen.contains(&known.source)
                && (line_gone(&known.source) || self.discovered.lacks(&self.context.naming, &known.source))
        };
        self.known.values().filter(gone).map(|known| known.id.clone()).collect()
    }
}
