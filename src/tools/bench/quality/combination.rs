//! What is measured: ways of finding candidates × ways of putting them in order.

use serde::Serialize;

use crate::domain::{Fusion, RerankMode, RetrievalMode};
use crate::error::{Error, Result};

/// One way of searching.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Combination {
    /// As `dense`, `hybrid_rrf` or `hybrid+late_interaction`; a hybrid search is named after a fusion that was asked for.
    #[serde(skip)]
    pub name: String,
    /// How candidates are found.
    pub retrieval: RetrievalMode,
    /// How the lists of a hybrid search become one; as configured when `None`.
    pub fusion: Option<Fusion>,
    /// How they are put in order.
    pub rerank: RerankMode,
}

/// What was asked for; all of it is combined, in this order.
#[derive(Debug, Clone)]
pub struct Selection {
    /// How candidates are found.
    pub retrieval: Vec<RetrievalMode>,
    /// How the lists of a hybrid search become one; as configured when empty.
    pub fusion: Vec<Fusion>,
    /// How they are put in order.
    pub rerank: Vec<RerankMode>,
}

impl Selection {
    /// Returns each combination once.
    pub fn combinations(&self) -> Vec<Combination> {
        let mut all: Vec<Combination> = Vec::new();
        for &retrieval in &self.retrieval {
            for fusion in self.fusions(retrieval) {
                for &rerank in &self.rerank {
                    let combination = Combination::new(retrieval, fusion, rerank);
                    if !all.contains(&combination) {
                        all.push(combination);
                    }
                }
            }
        }
        all
    }

    fn fusions(&self, retrieval: RetrievalMode) -> Vec<Option<Fusion>> {
        match retrieval {
            RetrievalMode::Hybrid if !self.fusion.is_empty() => self.fusion.iter().copied().map(Some).collect(),
            _ => vec![None],
        }
    }
}

impl Combination {
    fn new(retrieval: RetrievalMode, fusion: Option<Fusion>, rerank: RerankMode) -> Self {
        let found = match (retrieval, fusion) {
            (RetrievalMode::Dense, _) => "dense",
            (RetrievalMode::Lexical, _) => "lexical",
            (RetrievalMode::Hybrid, None) => "hybrid",
            (RetrievalMode::Hybrid, Some(Fusion::Convex)) => "hybrid_convex",
            (RetrievalMode::Hybrid, Some(Fusion::Rrf)) => "hybrid_rrf",
        };
        let name = match rerank {
            RerankMode::None => found.to_owned(),
            rerank => format!("{found}+{}", rerank.as_str()),
        };
        Self { name, retrieval, fusion, rerank }
    }
}

/// Returns the name of the combination that the others are compared to: `asked`, or the first.
///
/// # Errors
///
/// `Setup` when it is not one of them, or when there are none.
pub(super) fn baseline(combinations: &[Combination], asked: Option<&str>) -> Result<String> {
    let names: Vec<_> = combinations.iter().map(|combination| combination.name.as_str()).collect();
    match (asked, names.first()) {
        (Some(asked), _) if names.contains(&asked) => Ok(asked.to_owned()),
        (None, Some(first)) => Ok((*first).to_owned()),
        (Some(asked), _) => Err(Error::setup(
            format!("the baseline {asked:?} is not measured"),
            format!("--baseline is one of {}", names.join(", ")),
        )),
        (None, None) => Err(Error::setup("nothing is to be measured", "name a --retrieval and a --rerank")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(selection: &Selection) -> Vec<String> {
        selection.combinations().into_iter().map(|combination| combination.name).collect()
    }

    #[test]
    fn everything_is_combined_once_and_only_hybrid_searches_are_fused() {
        let mut selection = Selection {
            retrieval: vec![RetrievalMode::Dense, RetrievalMode::Hybrid, RetrievalMode::Dense],
            fusion: Vec::new(),
            rerank: vec![RerankMode::None, RerankMode::LateInteraction],
        };
        assert_eq!(names(&selection), ["dense", "dense+late_interaction", "hybrid", "hybrid+late_interaction"]);
        selection.rerank.truncate(1);
        selection.fusion = vec![Fusion::Convex, Fusion::Rrf];
        assert_eq!(names(&selection), ["dense", "hybrid_convex", "hybrid_rrf"]);
    }

    #[test]
    fn the_baseline_is_the_first_unless_another_is_named() {
        let all = [RerankMode::None, RerankMode::Llm].map(|mode| Combination::new(RetrievalMode::Dense, None, mode));
        assert_eq!(baseline(&all, None).unwrap(), "dense");
        assert_eq!(baseline(&all, Some("dense+llm")).unwrap(), "dense+llm");
        assert!(baseline(&all, Some("x")).unwrap_err().to_string().contains("one of dense, dense+llm"));
    }
}
