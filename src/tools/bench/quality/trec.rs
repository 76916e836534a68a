//! Rankings in the files that trec_eval and ir-measures read: `query Q0 document rank score tag`.
//!
//! trec_eval does not look at the rank: it sorts by score, equal scores by descending document id. So a run is written with
//! scores that fall with every rank, and read as trec_eval reads it.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::path::Path;

use super::dataset::{Dataset, each_line};
use super::measures::DEPTH;
use crate::error::{Error, Result};
use crate::tools::bench::write_text;

/// Documents of each query, best first.
pub type Rankings = HashMap<String, Vec<String>>;

/// Writes rankings, in the order given, as `folder/name.run`, making the folder.
///
/// # Errors
///
/// `Setup` when the file cannot be written.
pub fn write_run(folder: &Path, name: &str, rankings: &[(&str, &[String])]) -> Result<()> {
    let mut text = String::new();
    for (query, ranking) in rankings {
        for (at, document) in ranking.iter().take(DEPTH).enumerate() {
            // Writing to a text cannot fail.
            let _ = writeln!(text, "{query} Q0 {document} {} {} {name}", at + 1, DEPTH - at);
        }
    }
    write(folder, &format!("{name}.run"), &text)
}

/// Writes what is judged of the queries measured as `folder/qrels.txt`, in trec_eval's columns, which are not BEIR's.
///
/// # Errors
///
/// As [`write_run`].
pub fn write_judgements(folder: &Path, dataset: &Dataset) -> Result<()> {
    let mut text = String::new();
    for query in &dataset.queries {
        let mut grades: Vec<_> = dataset.judgements[&query.id].iter().collect();
        grades.sort_unstable();
        for (document, grade) in grades {
            let _ = writeln!(text, "{} 0 {document} {grade}", query.id);
        }
    }
    write(folder, "qrels.txt", &text)
}

/// Checks that the ids fit into such files, whose columns are parted by white space.
///
/// # Errors
///
/// `Setup` naming the first that does not.
pub fn check_ids(dataset: &Dataset) -> Result<()> {
    let queries = dataset.queries.iter().map(|query| &query.id);
    match queries.chain(&dataset.documents).find(|id| id.contains(char::is_whitespace)) {
        None => Ok(()),
        Some(id) => Err(Error::setup(
            format!("the id {id:?} has white space in it, which TREC's run files cannot hold"),
            "leave out --runs-dir, or give the documents and queries other ids",
        )),
    }
}

/// Reads a run and sorts it as trec_eval does.
///
/// # Errors
///
/// `Setup` with file and line for what cannot be read, and for a document that a query has twice.
pub fn read_run(path: &Path) -> Result<Rankings> {
    let mut scored: HashMap<String, Vec<(f32, String)>> = HashMap::new();
    let mut seen = HashSet::new();
    each_line(path, |_, line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [query, _, document, _, score, _] = fields[..] else { return Err("has not six columns".to_owned()) };
        // trec_eval keeps scores in single precision, which decides what is equal.
        let score: f32 = score.parse().ok().filter(|s: &f32| !s.is_nan()).ok_or("has a score that is no number")?;
        if !seen.insert((query.to_owned(), document.to_owned())) {
            return Err("repeats a document of its query".to_owned());
        }
        scored.entry(query.to_owned()).or_default().push((score, document.to_owned()));
        Ok(())
    })?;
    let ranked = |mut list: Vec<(f32, String)>| {
        list.sort_unstable_by(|(a, a_id), (b, b_id)| b.total_cmp(a).then_with(|| b_id.cmp(a_id)));
        list.into_iter().map(|(_, document)| document).collect()
    };
    Ok(scored.into_iter().map(|(query, list)| (query, ranked(list))).collect())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    write_text(&folder.join(name), text, "choose another --runs-dir")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_was_written_is_read_in_its_order() {
        let folder = tempfile::tempdir().unwrap();
        let ranking: Vec<String> = (0..DEPTH + 5).map(|n| format!("d{}", n * 8 % 105)).collect();
        write_run(folder.path(), "dense", &[("q", &ranking)]).unwrap();
        let read = read_run(&folder.path().join("dense.run")).unwrap();
        assert_eq!(read["q"], ranking[..DEPTH]);
    }

    #[test]
    fn equal_scores_are_sorted_by_descending_id() {
        let folder = tempfile::tempdir().unwrap();
        // The last two differ less than single precision shows.
        let text = "q Q0 a 1 0.5 t\nq Q0 b 2 0.5 t\nq Q0 c 3 0.9 t\nq Q0 y 4 0.10000000001 t\nq Q0 z 5 0.1 t\n";
        let path = folder.path().join("ties.run");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read_run(&path).unwrap()["q"], ["c", "b", "a", "z", "y"]);
        std::fs::write(&path, "q Q0 a 1 0.5 t\nq Q0 a 2 0.4 t\n").unwrap();
        assert!(read_run(&path).unwrap_err().to_string().contains("ties.run:2 repeats"));
    }
}
