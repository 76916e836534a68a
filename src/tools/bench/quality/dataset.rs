//! A labelled collection in BEIR layout (arXiv:2104.08663): `corpus.jsonl`, `queries.jsonl`, `qrels.tsv` or
//! `qrels/test.tsv`.
//!
//! All of it is read and checked before anything is measured: a judgement that is silently lost changes every figure.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::limits;
use crate::error::{Error, Result};

/// Bytes of a line: a document of the largest size whose every byte is escaped in two.
const LINE_BYTES_MAX: u64 = 2 * limits::DOCUMENT_BYTES_MAX as u64;
const ADVICE: &str = "a dataset is a folder with corpus.jsonl, queries.jsonl, and qrels.tsv or qrels/test.tsv";

/// The judged documents of one query with their grades; 0 and less is not relevant.
pub type Grades = HashMap<String, i32>;
/// The grades of each query.
pub type Judgements = HashMap<String, Grades>;

/// A labelled collection.
#[derive(Debug)]
pub struct Dataset {
    /// The documents' file, as given.
    pub corpus: PathBuf,
    /// The ids of the documents.
    pub documents: HashSet<String>,
    /// The queries that have a relevant document, in the order of their file.
    pub queries: Vec<Question>,
    /// What is judged of them and of others.
    pub judgements: Judgements,
    /// How many there are of each.
    pub counts: Counts,
}

/// A query of a collection.
#[derive(Debug, Clone, Deserialize)]
pub struct Question {
    /// Its name.
    #[serde(rename = "_id")]
    pub id: String,
    /// What is searched for.
    pub text: String,
}

/// What a collection holds, and what is amiss with it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// The name of its folder.
    pub name: String,
    /// Documents.
    pub documents: usize,
    /// Queries measured: those with at least one relevant document.
    pub queries: usize,
    /// Queries left out because nothing is judged for them.
    pub queries_unjudged: usize,
    /// Queries left out because nothing that is judged for them is relevant.
    pub queries_without_relevant: usize,
    /// Relevant documents of the queries measured, one count per query.
    pub relevant: usize,
    /// Judgements of documents that are not in the corpus: they count as not found, as in trec_eval.
    pub judgements_without_document: usize,
    /// Judgements of queries that are not in `queries.jsonl`; they count for nothing.
    pub judgements_without_query: usize,
}

impl Dataset {
    /// Reads the collection in `folder` and keeps its first `queries_max` judged queries.
    ///
    /// # Errors
    ///
    /// `Setup` with file and line for what cannot be read, and when no query has a relevant document.
    pub fn load(folder: &Path, queries_max: Option<usize>) -> Result<Self> {
        let corpus = folder.join("corpus.jsonl");
        let documents = document_ids(&corpus)?;
        let all = questions(&folder.join("queries.jsonl"))?;
        let judgements = judgements(&qrels_path(folder)?)?;
        let mut counts = Counts { name: name(folder), documents: documents.len(), ..Counts::default() };
        counts.judge(&all, &documents, &judgements);
        let mut queries: Vec<_> = all.into_iter().filter(|q| judgements.get(&q.id).is_some_and(has_relevant)).collect();
        queries.truncate(queries_max.unwrap_or(usize::MAX));
        counts.queries = queries.len();
        counts.relevant = queries.iter().map(|q| judgements[&q.id].values().filter(|grade| **grade > 0).count()).sum();
        if queries.is_empty() {
            let message = format!("no query of {} has a relevant document", folder.display());
            return Err(Error::setup(
                message,
                "check that the ids of queries.jsonl are those of the first qrels column",
            ));
        }
        Ok(Self { corpus, documents, queries, judgements, counts })
    }
}

impl Counts {
    fn judge(&mut self, queries: &[Question], documents: &HashSet<String>, judgements: &Judgements) {
        let known: HashSet<&str> = queries.iter().map(|query| query.id.as_str()).collect();
        for (query, grades) in judgements {
            if !known.contains(query.as_str()) {
                self.judgements_without_query += grades.len();
            } else if !has_relevant(grades) {
                self.queries_without_relevant += 1;
            }
            self.judgements_without_document += grades.keys().filter(|id| !documents.contains(*id)).count();
        }
        self.queries_unjudged = known.iter().filter(|id| !judgements.contains_key(**id)).count();
    }
}

fn has_relevant(grades: &Grades) -> bool {
    grades.values().any(|grade| *grade > 0)
}

/// Returns the folder's own name, also of `.` and of a link's end.
fn name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    whole.file_name().map_or_else(|| "dataset".to_owned(), |name| name.to_string_lossy().into_owned())
}

fn document_ids(path: &Path) -> Result<HashSet<String>> {
    #[derive(Deserialize)]
    struct Line {
        #[serde(rename = "_id", alias = "id")]
        id: String,
    }
    let mut ids = HashSet::new();
    each_line(path, |_, line| {
        let Line { id } = parsed(line)?;
        if ids.insert(id) { Ok(()) } else { Err("repeats an `_id`".to_owned()) }
    })?;
    Ok(ids)
}

fn questions(path: &Path) -> Result<Vec<Question>> {
    let mut ids = HashSet::new();
    let mut questions = Vec::new();
    each_line(path, |_, line| {
        let question: Question = parsed(line)?;
        if question.text.trim().is_empty() {
            return Err("has an empty `text`".to_owned());
        }
        if question.text.len() > limits::QUERY_BYTES_MAX {
            return Err(format!("has a `text` of {} bytes; at most {}", question.text.len(), limits::QUERY_BYTES_MAX));
        }
        if !ids.insert(question.id.clone()) {
            return Err("repeats an `_id`".to_owned());
        }
        questions.push(question);
        Ok(())
    })?;
    Ok(questions)
}

/// Parses a line of JSON. What serde says would quote the line.
fn parsed<'l, T: Deserialize<'l>>(line: &'l str) -> Result<T, String> {
    serde_json::from_str(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => "lacks `_id` or `text`, or one of them is no text".to_owned(),
        _ => format!("is not valid JSON at column {}", error.column()),
    })
}

fn qrels_path(folder: &Path) -> Result<PathBuf> {
    let places = [folder.join("qrels.tsv"), folder.join("qrels").join("test.tsv")];
    places.into_iter().find(|path| path.exists()).ok_or_else(|| {
        Error::setup(format!("there is neither qrels.tsv nor qrels/test.tsv in {}", folder.display()), ADVICE)
    })
}

/// Reads judgements: BEIR's three columns (query, document, grade) parted by tabs, with or without a header, or TREC's four
/// (query, 0, document, grade) parted by white space.
///
/// # Errors
///
/// `Setup` with file and line for what is neither, and for a document that is given two grades.
pub fn judgements(path: &Path) -> Result<Judgements> {
    let mut judgements = Judgements::new();
    each_line(path, |number, line| {
        let (query, document, grade) = judgement(line).ok_or("has neither three columns nor four")?;
        let grade = match grade.parse::<i32>() {
            Ok(grade) => grade,
            Err(_) if number == 1 => return Ok(()),
            Err(_) => return Err("has a grade that is no whole number".to_owned()),
        };
        let before = judgements.entry(query.to_owned()).or_default().insert(document.to_owned(), grade);
        match before {
            Some(before) if before != grade => Err("gives a document another grade than an earlier line".to_owned()),
            _ => Ok(()),
        }
    })?;
    Ok(judgements)
}

fn judgement(line: &str) -> Option<(&str, &str, &str)> {
    let tabs: Vec<_> = line.split('\t').map(str::trim).collect();
    let words: Vec<_> = line.split_whitespace().collect();
    match (tabs.as_slice(), words.as_slice()) {
        ([query, document, grade], _) | (_, [query, _, document, grade]) => Some((query, document, grade)),
        _ => None,
    }
}

/// Calls `each` with the number, from 1, and the text of each line that is not blank.
pub(super) fn each_line(path: &Path, mut each: impl FnMut(u64, &str) -> Result<(), String>) -> Result<()> {
    let failed = |e: std::io::Error| Error::setup(format!("cannot read {}: {e}", path.display()), ADVICE);
    let mut reader = BufReader::new(std::fs::File::open(path).map_err(failed)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if (&mut reader).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(failed)? == 0 {
            break;
        }
        let complaint = match std::str::from_utf8(&line) {
            _ if line.len() as u64 == LINE_BYTES_MAX => Err(format!("is longer than {LINE_BYTES_MAX} bytes")),
            Err(_) => Err("is not UTF-8".to_owned()),
            Ok(text) if text.trim().is_empty() => Ok(()),
            Ok(text) => each(number, text.trim_end_matches(['\r', '\n'])),
        };
        complaint.map_err(|reason| Error::setup(format!("{}:{number} {reason}", path.display()), "mend the line"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(corpus: &str, queries: &str, qrels: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("corpus.jsonl", corpus), ("queries.jsonl", queries), ("qrels.tsv", qrels)] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    const CORPUS: &str = "{\"_id\": \"a\", \"text\": \"x\"}\n{\"_id\": \"b\", \"title\": \"y\"}\n";
    const QUERIES: &str = "{\"_id\": \"1\", \"text\": \"p\"}\n\n{\"_id\": \"2\", \"text\": \"q\"}\n";

    #[test]
    fn what_is_amiss_is_counted() {
        let qrels = "query-id\tcorpus-id\tscore\n1\ta\t2\n1\tgone\t1\n2\tb\t0\n9\ta\t1\n";
        let folder = folder(CORPUS, QUERIES, qrels);
        let dataset = Dataset::load(folder.path(), None).unwrap();
        let Counts { documents, queries, queries_without_relevant, relevant, .. } = dataset.counts;
        assert_eq!((documents, queries, queries_without_relevant, relevant), (2, 1, 1, 2));
        assert_eq!((dataset.counts.judgements_without_document, dataset.counts.judgements_without_query), (1, 1));
        assert_eq!(dataset.counts.queries_unjudged, 0);
    }

    #[test]
    fn qrels_are_read_in_both_layouts() {
        let folder = folder("", "", "1 0 a 1\r\n1 Q0 b 0\r\n");
        let trec = judgements(&folder.path().join("qrels.tsv")).unwrap();
        assert_eq!(trec["1"], Grades::from([("a".to_owned(), 1), ("b".to_owned(), 0)]));
    }

    #[test]
    fn a_bad_line_is_named_with_its_file() {
        for (corpus, queries, qrels, complaint) in [
            ("{\"_id\": \"a\"}\n{\"text\"", QUERIES, "", "corpus.jsonl:2 is not valid JSON"),
            ("{\"_id\": \"a\"}\n{\"_id\": \"a\"}", QUERIES, "", "corpus.jsonl:2 repeats"),
            (CORPUS, "{\"_id\": \"1\"}", "", "queries.jsonl:1 lacks"),
            (CORPUS, "{\"_id\": \"1\", \"text\": \" \"}", "", "queries.jsonl:1 has an empty"),
            (CORPUS, QUERIES, "q\td\ts\n1\ta\n", "qrels.tsv:2 has neither three"),
            (CORPUS, QUERIES, "q\td\ts\n1\ta\thigh\n", "qrels.tsv:2 has a grade"),
            (CORPUS, QUERIES, "1\ta\t1\n1\ta\t2\n", "qrels.tsv:2 gives a document another"),
            (CORPUS, QUERIES, "7\ta\t1\n", "no query of"),
        ] {
            let folder = folder(corpus, queries, qrels);
            let error = Dataset::load(folder.path(), None).unwrap_err().to_string();
            assert!(error.contains(complaint) && error.contains('→'), "{error}");
        }
    }
}
