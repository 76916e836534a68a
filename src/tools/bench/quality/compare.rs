//! Comparing the outputs of two runs, query by query, from their files.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::dataset::Judgements;
use super::measures::Measures;
use super::significance::Difference;
use super::trec;
use crate::error::{Error, Result};

/// nDCG@10 of each query by its id.
pub type PerQuery = BTreeMap<String, f64>;

/// An earlier run, from its file.
#[derive(Debug, Clone, PartialEq)]
pub struct Earlier {
    /// Documents of the collection, where the file tells: a query's id alone does not say which collection it is of.
    pub documents: Option<usize>,
    /// The combinations by their names.
    pub combinations: BTreeMap<String, PerQuery>,
}

#[derive(Deserialize)]
struct Output {
    corpus: Corpus,
    combinations: BTreeMap<String, Combination>,
}

#[derive(Deserialize)]
struct Corpus {
    documents: usize,
}

#[derive(Deserialize)]
struct Combination {
    per_query: BTreeMap<String, Query>,
}

#[derive(Deserialize)]
struct Query {
    ndcg_at_10: f64,
}

/// Which combination of one run is compared to which of the other; those of equal name when neither is named.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pairing<'a> {
    /// Of the first run, the one compared to.
    pub from: Option<&'a str>,
    /// Of the second run.
    pub to: Option<&'a str>,
}

impl Earlier {
    /// Reads what `bench quality --output` wrote.
    ///
    /// # Errors
    ///
    /// `Setup` when it is no such file.
    pub fn load(path: &Path) -> Result<Self> {
        let advice = "name a file that `amalfa bench quality --output` wrote; a TREC run needs --qrels";
        let failed = |e: &dyn std::fmt::Display| Error::setup(format!("cannot read {}: {e}", path.display()), advice);
        let text = std::fs::read_to_string(path).map_err(|e| failed(&e))?;
        let output: Output = serde_json::from_str(&text).map_err(|e| failed(&e))?;
        let per_query = |combination: Combination| {
            combination.per_query.into_iter().map(|(id, query)| (id, query.ndcg_at_10)).collect()
        };
        let combinations = output.combinations.into_iter().map(|(name, c)| (name, per_query(c))).collect();
        Ok(Self { documents: Some(output.corpus.documents), combinations })
    }

    /// Reads a TREC run, whoever made it, as one combination with the file's name. A judged query that it has not counts 0.
    ///
    /// # Errors
    ///
    /// `Setup` when it is no such file.
    pub fn load_run(path: &Path, judgements: &Judgements) -> Result<Self> {
        let rankings = trec::read_run(path)?;
        let judged = judgements.iter().filter(|(_, grades)| grades.values().any(|grade| *grade > 0));
        let ndcg = |query: &String, grades| {
            let ranking = rankings.get(query).into_iter().flatten().map(String::as_str);
            (query.clone(), Measures::of(ranking, grades).ndcg_at_10)
        };
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let per_query = judged.map(|(query, grades)| ndcg(query, grades)).collect();
        Ok(Self { documents: None, combinations: BTreeMap::from([(name, per_query)]) })
    }

    /// Checks that this run is of a collection with so many documents.
    ///
    /// # Errors
    ///
    /// `Setup` when it is of another.
    pub fn check(&self, documents: Option<usize>) -> Result<()> {
        match (self.documents, documents) {
            (Some(mine), Some(theirs)) if mine != theirs => Err(Error::setup(
                format!("the runs are of two collections: one has {mine} documents, the other {theirs}"),
                "compare runs of the same dataset",
            )),
            _ => Ok(()),
        }
    }

    fn names(&self) -> String {
        self.combinations.keys().cloned().collect::<Vec<_>>().join(", ")
    }

    /// Returns the combination called `name`, or the only one there is.
    fn choose(&self, name: Option<&str>, flag: &str) -> Result<&str> {
        let chosen = match name {
            Some(name) => self.combinations.get_key_value(name),
            None => self.combinations.iter().next().filter(|_| self.combinations.len() == 1),
        };
        chosen.map(|(name, _)| name.as_str()).ok_or_else(|| {
            let asked =
                name.map_or_else(|| "no combination was chosen".to_owned(), |n| format!("no combination is {n:?}"));
            Error::setup(asked, format!("{flag} is one of {}", self.names()))
        })
    }
}

/// Returns how the combinations of `second` differ from those of `first`, with their names.
///
/// # Errors
///
/// `Setup` when they are of two collections, or have no combination or no query in common.
pub fn compare(first: &Earlier, second: &Earlier, pairing: Pairing<'_>) -> Result<Vec<(String, Difference)>> {
    first.check(second.documents)?;
    let compared = |(from, to): (&str, &str)| {
        Ok((to.to_owned(), difference(from, &first.combinations[from], &second.combinations[to])?))
    };
    pairs(first, second, pairing)?.into_iter().map(compared).collect()
}

fn pairs<'e>(first: &'e Earlier, second: &'e Earlier, by: Pairing<'_>) -> Result<Vec<(&'e str, &'e str)>> {
    let (ours, theirs) = (&first.combinations, &second.combinations);
    if by.from.is_some() || by.to.is_some() || (ours.len(), theirs.len()) == (1, 1) {
        let from = first.choose(by.from.or(by.to), "--from")?;
        return Ok(vec![(from, second.choose(by.to.or(by.from), "--to")?)]);
    }
    let both: Vec<_> = ours.keys().filter(|name| theirs.contains_key(*name)).map(String::as_str).collect();
    match both.is_empty() {
        false => Ok(both.into_iter().map(|name| (name, name)).collect()),
        true => Err(Error::setup(
            format!("the runs have no combination in common: {} and {}", first.names(), second.names()),
            "choose one of each with --from and --to",
        )),
    }
}

/// Returns how `this` differs from `to` over the queries that both have.
///
/// # Errors
///
/// `Setup` when there are none.
pub(super) fn difference(name: &str, to: &PerQuery, this: &PerQuery) -> Result<Difference> {
    let pairs: Vec<_> = this.iter().filter_map(|(query, figure)| Some((*to.get(query)?, *figure))).collect();
    if pairs.is_empty() {
        return Err(Error::setup("the runs have no query in common", "compare runs of the same dataset"));
    }
    Ok(Difference::of(name, &pairs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(combinations: &[(&str, &[(&str, f64)])]) -> Earlier {
        let per_query = |list: &[(&str, f64)]| list.iter().map(|(id, figure)| ((*id).to_owned(), *figure)).collect();
        let combinations = combinations.iter().map(|(name, list)| ((*name).to_owned(), per_query(list))).collect();
        Earlier { documents: Some(10), combinations }
    }

    #[test]
    fn queries_are_matched_by_id() {
        let (first, second) = (run(&[("a", &[("1", 0.2), ("2", 0.4)])]), run(&[("b", &[("2", 0.9), ("3", 1.0)])]));
        let all = compare(&first, &second, Pairing::default()).unwrap();
        assert_eq!((all.len(), all[0].0.as_str(), all[0].1.to.as_str(), all[0].1.queries), (1, "b", "a", 1));
        assert!((all[0].1.ndcg_at_10 - 0.5).abs() < 1e-12);
    }

    #[test]
    fn combinations_are_matched_by_name_or_as_asked() {
        let query: &[(&str, f64)] = &[("1", 0.5)];
        let (first, second) = (run(&[("a", query), ("b", query)]), run(&[("b", query), ("c", query)]));
        assert_eq!(compare(&first, &second, Pairing::default()).unwrap()[0].0, "b");
        let asked = Pairing { from: Some("a"), to: Some("c") };
        let all = compare(&first, &second, asked).unwrap();
        assert_eq!((all[0].0.as_str(), all[0].1.to.as_str()), ("c", "a"));
        let error = compare(&first, &second, Pairing { from: Some("c"), to: None }).unwrap_err().to_string();
        assert!(error.contains("--from is one of a, b"), "{error}");
    }

    #[test]
    fn runs_without_anything_in_common_are_refused() {
        let one = run(&[("a", &[("1", 0.5)]), ("b", &[("1", 0.5)])]);
        let other = run(&[("c", &[("1", 0.5)]), ("d", &[("1", 0.5)])]);
        assert!(compare(&one, &other, Pairing::default()).unwrap_err().to_string().contains("no combination"));
        let apart = (run(&[("a", &[("1", 0.5)])]), run(&[("a", &[("2", 0.5)])]));
        assert!(compare(&apart.0, &apart.1, Pairing::default()).unwrap_err().to_string().contains("no query"));
        let larger = Earlier { documents: Some(11), ..one.clone() };
        assert!(compare(&one, &larger, Pairing::default()).unwrap_err().to_string().contains("two collections"));
    }
}
