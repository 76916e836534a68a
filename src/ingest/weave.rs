//! Resolves what documents mention into edges between them.
//!
//! Wikilinks and tags name a document by id, source, file name, title or alias; links name a file by its path. References
//! are stored as written and resolved here, all together, so a document may mention one that comes later or moves.

use std::collections::{BTreeSet, HashMap};

use super::read::stem;
use super::sources::{TEXT_EXTENSIONS, file_of};
use crate::domain::{Edge, EdgeKind};
use crate::store::Node;

/// The edges of an index, and what leads nowhere.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Woven {
    pub edges: Vec<Edge>,
    /// Wikilinks and links that name no document. A tag that names none is simply a label.
    pub dangling: u64,
}

/// Resolves every reference of every document.
pub(super) fn weave(nodes: &[Node]) -> Woven {
    let lexicon = Lexicon::new(nodes);
    let mut edges = BTreeSet::new();
    let mut dangling = 0;
    for (index, node) in nodes.iter().enumerate() {
        for reference in &node.references {
            let found = match reference.kind {
                EdgeKind::LinksTo => lexicon.link(index, &reference.target),
                EdgeKind::Cites | EdgeKind::TaggedAs => lexicon.name(index, &reference.target),
            };
            match found {
                Some(to) if to == index => {}
                Some(to) => {
                    edges.insert(Edge { from: node.id.clone(), to: nodes[to].id.clone(), kind: reference.kind });
                }
                None => dangling += u64::from(reference.kind != EdgeKind::TaggedAs),
            }
        }
    }
    Woven { edges: edges.into_iter().collect(), dangling }
}

/// What documents are called.
struct Lexicon<'a> {
    nodes: &'a [Node],
    ids: HashMap<&'a str, usize>,
    sources: HashMap<&'a str, usize>,
    /// Slugs of file names, of titles, of aliases: looked up in this order.
    slugs: [HashMap<String, Vec<usize>>; 3],
}

impl<'a> Lexicon<'a> {
    fn new(nodes: &'a [Node]) -> Self {
        let mut slugs: [HashMap<String, Vec<usize>>; 3] = Default::default();
        let mut enter = |rank: usize, name: &str, index| {
            let name = slug(name);
            if !name.is_empty() {
                slugs[rank].entry(name).or_default().push(index);
            }
        };
        for (index, node) in nodes.iter().enumerate() {
            if file_of(&node.source) == node.source {
                enter(0, stem(&node.source), index);
            }
            enter(1, &node.title, index);
            node.aliases.iter().for_each(|alias| enter(2, alias, index));
        }
        Self {
            nodes,
            ids: nodes.iter().enumerate().map(|(index, node)| (node.id.as_str(), index)).collect(),
            sources: nodes.iter().enumerate().map(|(index, node)| (node.source.as_str(), index)).collect(),
            slugs,
        }
    }

    /// Finds what a wikilink or a tag names, as seen from a document.
    fn name(&self, from: usize, target: &str) -> Option<usize> {
        if let Some(exact) = self.ids.get(target).copied().or_else(|| self.file(target)) {
            return Some(exact);
        }
        let (folder, name) = target.rsplit_once('/').unwrap_or(("", target));
        let known =
            TEXT_EXTENSIONS.iter().any(|known| name.len() > known.len() && name.ends_with(&format!(".{known}")));
        let slug = slug(if known { stem(name) } else { name });
        self.slugs.iter().find_map(|names| self.nearest(from, folder, names.get(&slug)?))
    }

    /// Finds the file that a relative link leads to.
    fn link(&self, from: usize, target: &str) -> Option<usize> {
        let path = resolve(folder_of(&self.nodes[from].source), target)?;
        self.file(&path)
    }

    /// Finds a document by its path: as it is, with an extension, as the page made from it, or as a folder's own page.
    fn file(&self, path: &str) -> Option<usize> {
        let page = path.strip_suffix(".html").or_else(|| path.strip_suffix(".htm")).unwrap_or(path);
        let inside = if path.is_empty() { String::new() } else { format!("{path}/") };
        let named = TEXT_EXTENSIONS.iter().map(|extension| format!("{page}.{extension}"));
        let own = ["README.md", "readme.md", "index.md", "_index.md"].into_iter().map(|name| format!("{inside}{name}"));
        let exact = self.sources.get(path).copied();
        exact.or_else(|| named.chain(own).find_map(|path| self.sources.get(path.as_str()).copied()))
    }

    /// Returns the candidate whose folder is the fewest steps away, then the one with the least id. With `folder`, as in
    /// `[[folder/name]]`, only those in such a folder.
    fn nearest(&self, from: usize, folder: &str, candidates: &[usize]) -> Option<usize> {
        let home = folder_of(&self.nodes[from].source);
        let within = |index: &&usize| {
            let place = folder_of(&self.nodes[**index].source);
            folder.is_empty() || place == folder || place.ends_with(&format!("/{folder}"))
        };
        let distance = |index: &&usize| {
            let node = &self.nodes[**index];
            (steps(home, folder_of(&node.source)), &node.id)
        };
        candidates.iter().filter(within).min_by_key(distance).copied()
    }
}

/// Returns a name as it is compared: letters and digits in lower case, the rest one hyphen.
fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

fn folder_of(source: &str) -> &str {
    file_of(source).rsplit_once('/').map_or("", |(folder, _)| folder)
}

/// Returns a relative path as seen from a folder; `None` when it leads out of the sources.
fn resolve(folder: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    let root = if folder.starts_with('/') { "/" } else { "" };
    Some(format!("{root}{}", parts.join("/")))
}

/// Returns how many folders one passes on the way from one to the other.
fn steps(from: &str, to: &str) -> usize {
    let parts = |folder: &'_ str| folder.split('/').filter(|part| !part.is_empty()).count();
    let shared = from.split('/').zip(to.split('/')).take_while(|(a, b)| a == b && !a.is_empty()).count();
    parts(from) + parts(to) - 2 * shared
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DocumentId, Reference};

    fn node(source: &str, title: &str, references: &[(EdgeKind, &str)]) -> Node {
        Node {
            id: DocumentId::parse("id", source).unwrap(),
            source: source.to_owned(),
            title: title.to_owned(),
            aliases: Vec::new(),
            references: references
                .iter()
                .map(|(kind, target)| Reference { kind: *kind, target: (*target).to_owned() })
                .collect(),
        }
    }

    /// Returns where one reference of `from` leads among these documents.
    fn lead(from: &str, kind: EdgeKind, target: &str, others: &[(&str, &str)]) -> (Option<String>, u64) {
        let mut nodes: Vec<Node> = others.iter().map(|(source, title)| node(source, title, &[])).collect();
        nodes.push(node(from, "From", &[(kind, target)]));
        let woven = weave(&nodes);
        (woven.edges.first().map(|edge| edge.to.to_string()), woven.dangling)
    }

    #[test]
    fn links_are_resolved_against_their_folder() {
        for (target, source) in [
            ("b.md", "a/b.md"),
            ("../c/d.md", "c/d.md"),
            ("./b", "a/b.md"),
            ("b.html", "a/b.md"),
            ("e", "a/e/README.md"),
            ("e/", "a/e/README.md"),
            ("../f/", "f/index.md"),
            ("..", "README.md"),
        ] {
            let others =
                ["a/b.md", "b.md", "c/d.md", "a/e/README.md", "f/index.md", "README.md"].map(|source| (source, ""));
            let found = lead("a/from.md", EdgeKind::LinksTo, target, &others);
            assert_eq!(found, (Some(source.to_owned()), 0), "{target}");
        }
    }

    #[test]
    fn links_between_absolute_sources_are_resolved() {
        let found = lead("/x/a/from.md", EdgeKind::LinksTo, "../b.md", &[("/x/b.md", ""), ("x/b.md", "")]);
        assert_eq!(found.0.as_deref(), Some("/x/b.md"));
    }

    #[test]
    fn a_link_to_no_document_dangles() {
        for target in ["none.md", "../../../out.md", "Title"] {
            assert_eq!(lead("a/from.md", EdgeKind::LinksTo, target, &[("b.md", "Title")]), (None, 1), "{target}");
        }
    }

    #[test]
    fn wikilinks_find_names_paths_and_titles() {
        for target in ["docs/the-note.md", "docs/the-note", "the-note", "The Note", "the-note.md", "A Full Title!"] {
            let found = lead("from.md", EdgeKind::Cites, target, &[("docs/the-note.md", "A full title")]);
            assert_eq!(found, (Some("docs/the-note.md".to_owned()), 0), "{target}");
        }
        assert_eq!(lead("from.md", EdgeKind::Cites, "nothing", &[("a.md", "A")]), (None, 1));
    }

    #[test]
    fn wikilinks_find_aliases_after_names() {
        let mut nodes = vec![
            node("from.md", "", &[(EdgeKind::Cites, "Nick Name")]),
            node("a.md", "A", &[]),
            node("b.md", "B", &[]),
        ];
        nodes[2].aliases = vec!["Nick name".to_owned()];
        assert_eq!(weave(&nodes).edges[0].to.as_str(), "b.md");
        nodes[1].title = "nick-name".to_owned();
        assert_eq!(weave(&nodes).edges[0].to.as_str(), "a.md");
    }

    #[test]
    fn of_many_with_one_name_the_nearest_is_meant() {
        let others = [("a/setup.md", ""), ("b/c/setup.md", ""), ("b/setup.md", "")];
        for (from, source) in [
            ("b/from.md", "b/setup.md"),
            ("b/c/from.md", "b/c/setup.md"),
            ("from.md", "a/setup.md"),
            ("d/from.md", "a/setup.md"),
        ] {
            assert_eq!(lead(from, EdgeKind::Cites, "setup", &others).0.as_deref(), Some(source), "{from}");
        }
        assert_eq!(lead("a/from.md", EdgeKind::Cites, "c/setup", &others).0.as_deref(), Some("b/c/setup.md"));
    }

    #[test]
    fn a_tag_that_names_no_document_is_a_label() {
        assert_eq!(lead("from.md", EdgeKind::TaggedAs, "graph", &[("a.md", "Other")]), (None, 0));
        assert_eq!(lead("from.md", EdgeKind::TaggedAs, "graph", &[("a.md", "Graph")]), (Some("a.md".to_owned()), 0));
    }

    #[test]
    fn a_document_has_no_edge_to_itself() {
        let woven = weave(&[node("a.md", "A", &[(EdgeKind::Cites, "a"), (EdgeKind::LinksTo, "./a.md")])]);
        assert_eq!(woven, Woven::default());
    }

    #[test]
    fn two_ways_to_the_same_document_are_one_edge() {
        let woven = weave(&[
            node("a.md", "A", &[(EdgeKind::Cites, "b"), (EdgeKind::Cites, "B title")]),
            node("b.md", "B title", &[]),
        ]);
        assert_eq!(woven.edges.len(), 1);
    }

    #[test]
    fn a_line_of_a_file_is_found_by_id_and_title() {
        let others = [("corpus.jsonl#42", "A paper")];
        let mut nodes = vec![node("from.md", "", &[(EdgeKind::Cites, "42"), (EdgeKind::TaggedAs, "a paper")])];
        nodes.extend(
            others
                .map(|(source, title)| Node { id: DocumentId::parse("id", "42").unwrap(), ..node(source, title, &[]) }),
        );
        let woven = weave(&nodes);
        assert_eq!((woven.edges.len(), woven.dangling), (2, 0));
    }
}
