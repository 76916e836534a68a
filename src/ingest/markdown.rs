//! What of a Markdown text matters to an index: its headings and the documents it mentions.

use std::collections::BTreeSet;
use std::ops::Range;

use percent_encoding::percent_decode_str;
use pulldown_cmark::{Event, LinkType, Options, Parser, Tag, TagEnd};

use crate::domain::{EdgeKind, Reference, limits};

/// Characters of a heading that are kept; the rest is prose that someone marked as a heading.
const HEADING_CHARS_MAX: usize = 200;
/// References kept of one document, far beyond any table of contents.
const REFERENCES_MAX: usize = 10_000;

/// A heading of the text itself, not of a quotation, a list or a code block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heading {
    /// Where its line begins, in bytes.
    pub start: usize,
    /// Where what is under it begins.
    pub end: usize,
    /// 1 to 6.
    pub level: u8,
    /// Its words, without markup.
    pub text: String,
}

/// The headings in order, and what is mentioned.
#[derive(Debug, Default)]
pub(super) struct Outline {
    /// In order of `start`.
    pub headings: Vec<Heading>,
    /// Wikilinks and links, each once.
    pub references: BTreeSet<Reference>,
}

/// Reads a whole text once.
pub(super) fn outline(text: &str) -> Outline {
    let mut reader = Reader::new(text);
    for (event, range) in parser(text) {
        reader.take(event, range);
    }
    reader.outline
}

/// Returns the first heading's words, reading no further.
pub(super) fn first_heading(text: &str) -> Option<String> {
    let mut reader = Reader::new(text);
    for (event, range) in parser(text) {
        reader.take(event, range);
        if let Some(heading) = reader.outline.headings.pop().filter(|heading| !heading.text.is_empty()) {
            return Some(heading.text);
        }
    }
    None
}

fn parser(text: &str) -> pulldown_cmark::OffsetIter<'_> {
    Parser::new_ext(text, Options::ENABLE_WIKILINKS | Options::ENABLE_HEADING_ATTRIBUTES).into_offset_iter()
}

struct Reader<'a> {
    text: &'a str,
    /// Quotations and lists around the current event.
    depth: usize,
    heading: Option<Heading>,
    outline: Outline,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, depth: 0, heading: None, outline: Outline::default() }
    }

    fn take(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(Tag::BlockQuote(_) | Tag::List(_)) => self.depth += 1,
            Event::End(TagEnd::BlockQuote(_) | TagEnd::List(_)) => self.depth -= 1,
            Event::Start(Tag::Heading { level, .. }) if self.depth == 0 => self.open(level as u8, range),
            Event::End(TagEnd::Heading(_)) => self.close(),
            Event::Start(Tag::Link { link_type, dest_url, .. }) => self.mention(link_type, &dest_url),
            Event::Text(words) | Event::Code(words) => self.say(&words),
            Event::SoftBreak | Event::HardBreak => self.say(" "),
            _ => {}
        }
    }

    fn open(&mut self, level: u8, range: Range<usize>) {
        let start = self.text[..range.start].rfind('\n').map_or(0, |at| at + 1);
        self.heading = Some(Heading { start, end: range.end, level, text: String::new() });
    }

    fn say(&mut self, words: &str) {
        if let Some(heading) = &mut self.heading {
            // A character has at most 4 bytes, so this much is enough to fill the heading.
            let room = (HEADING_CHARS_MAX * 4).saturating_sub(heading.text.len());
            heading.text.push_str(&words[..words.floor_char_boundary(room)]);
        }
    }

    fn close(&mut self) {
        if let Some(mut heading) = self.heading.take() {
            heading.text = heading.text.split_whitespace().collect::<Vec<_>>().join(" ");
            if let Some((end, _)) = heading.text.char_indices().nth(HEADING_CHARS_MAX) {
                heading.text.truncate(end);
            }
            self.outline.headings.push(heading);
        }
    }

    fn mention(&mut self, link: LinkType, destination: &str) {
        let reference = match link {
            LinkType::WikiLink { .. } => wikilink(destination).map(|target| (EdgeKind::Cites, target)),
            LinkType::Autolink | LinkType::Email => None,
            _ => relative_link(destination).map(|target| (EdgeKind::LinksTo, target)),
        };
        if let Some((kind, target)) = reference
            && target.len() <= limits::ID_BYTES_MAX
            && self.outline.references.len() < REFERENCES_MAX
        {
            self.outline.references.insert(Reference { kind, target });
        }
    }
}

/// Returns what `[[Target#anchor]]` names: the target without its anchor; `None` when it points into its own page.
fn wikilink(destination: &str) -> Option<String> {
    let target = destination.split('#').next().unwrap_or_default().trim();
    (!target.is_empty()).then(|| target.to_owned())
}

/// Returns the path of a link relative to its own file, decoded, without query and anchor. `None` for what has a scheme
/// or begins at a root (`https:`, `mailto:`, `//host`, `/docs`: only a site's generator knows that root), for an anchor
/// alone, and for files that are no documents (images, sources).
fn relative_link(destination: &str) -> Option<String> {
    let path = destination.split(['#', '?']).next().unwrap_or_default();
    let first = path.split('/').next().unwrap_or_default();
    if path.is_empty() || path.starts_with('/') || first.contains(':') {
        return None;
    }
    let path = percent_decode_str(path).decode_utf8().ok()?.into_owned();
    names_document(&path).then_some(path)
}

/// Whether a path ends like a document (`a.md`, or `a.html` made from it), a folder, or has no extension.
fn names_document(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    match name.rsplit_once('.') {
        None | Some(("", _) | (_, "")) => true,
        Some((_, extension)) => {
            let extension = extension.to_ascii_lowercase();
            super::sources::TEXT_EXTENSIONS.contains(&extension.as_str())
                || ["html", "htm"].contains(&extension.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headings(text: &str) -> Vec<(u8, String)> {
        outline(text).headings.into_iter().map(|heading| (heading.level, heading.text)).collect()
    }

    fn references(text: &str) -> Vec<(EdgeKind, String)> {
        outline(text).references.into_iter().map(|reference| (reference.kind, reference.target)).collect()
    }

    #[test]
    fn headings_are_atx_and_setext_without_markup() {
        let text = "# One *two* `three` {#id}\ntext\n\nFour\n====\n\nFive\n---\n### Six ###\n";
        let expected = [(1, "One two three"), (1, "Four"), (2, "Five"), (3, "Six")];
        assert_eq!(headings(text), expected.map(|(level, words)| (level, words.to_owned())));
    }

    #[test]
    fn code_quotations_and_lists_have_no_headings() {
        assert_eq!(headings("```sh\n# not one\n```\n\n    # nor this\n\n> # nor this\n\n- # nor this\n"), []);
    }

    #[test]
    fn a_heading_begins_at_its_line() {
        let outline = outline("before\n\n  ## Indented\nafter");
        let heading = &outline.headings[0];
        assert_eq!(heading.start, 8);
        assert_eq!(heading.end, "before\n\n  ## Indented\n".len());
    }

    #[test]
    fn a_long_heading_is_cut() {
        let text = format!("# {}", "é".repeat(5_000));
        assert_eq!(headings(&text)[0].1.chars().count(), HEADING_CHARS_MAX);
    }

    #[test]
    fn the_first_heading_with_words_is_found() {
        assert_eq!(first_heading("text\n\n#\n\n## Second\n\n# Third"), Some("Second".into()));
        assert_eq!(first_heading("no heading"), None);
    }

    #[test]
    fn wikilinks_cite_their_target_without_alias_and_anchor() {
        for (text, target) in [
            ("[[Target]]", "Target"),
            ("[[Target|alias]]", "Target"),
            ("[[Target#anchor]]", "Target"),
            ("[[folder/Target note#a|b]]", "folder/Target note"),
            ("in a [[ Target ]] sentence", "Target"),
            ("# [[Target]] in a heading", "Target"),
        ] {
            assert_eq!(references(text), [(EdgeKind::Cites, target.to_owned())], "{text}");
        }
    }

    #[test]
    fn relative_links_lead_to_a_path() {
        for (text, target) in [
            ("[t](a.md)", "a.md"),
            ("[t](../a/b.md#x)", "../a/b.md"),
            ("[t](./a%20b.md?raw=1 \"title\")", "./a b.md"),
            ("[t](<a b.md>)", "a b.md"),
            ("[t][r]\n\n[r]: guide/\n", "guide/"),
            ("[r]\n\n[r]: page.html#part\n", "page.html"),
            ("[t](..)", ".."),
        ] {
            assert_eq!(references(text), [(EdgeKind::LinksTo, target.to_owned())], "{text}");
        }
    }

    #[test]
    fn other_links_mention_no_document() {
        for text in [
            "[t](https://example.org/a.md)",
            "[t](mailto:a@b.org)",
            "[t](//host/a.md)",
            "[t](/docs/a.md)",
            "[t](#part)",
            "[t](main.rs)",
            "![image](a.md)",
            "<https://example.org>",
            "[[#part]]",
            "`[[code]]` and `[t](a.md)`",
            "```\n[[code]]\n[t](a.md)\n```",
        ] {
            assert_eq!(references(text), [], "{text}");
        }
    }
}
