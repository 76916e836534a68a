//! Cuts a text into passages that fit the model's window, along its headings.
//!
//! A section that fits stays whole; small neighbours under one heading share a passage; a long one is cut at the last
//! paragraph, sentence, line or word that fits, with a little overlap. A passage is embedded under its document's title
//! and the headings above it, which count against the window, so the model reads every token.

use std::ops::Range;

use super::markdown::Heading;
use crate::error::Result;

/// Part of every content hash: raising it makes the next ingest cut every document again.
pub(super) const VERSION: u32 = 1;
/// Bytes without a token's beginning that count as a token: unknown words and white space have hardly any tokens, and a
/// passage must stay a passage.
const BYTES_PER_TOKEN_MAX: usize = 64;
/// Bytes that the tokenizer gets at a time: its own memory is some 100 bytes for each byte of text.
const PIECE_BYTES: usize = 16 << 10;
/// A section with less than this share of the window seeks company.
const SMALL: usize = 4;

/// A tokenizer: the byte range of each token of a text.
pub(super) type Tokenizer<'a> = dyn Fn(&str) -> Result<Vec<(usize, usize)>> + 'a;

/// How large passages are, in tokens.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    /// Of a passage as embedded.
    pub tokens: usize,
    /// That a passage repeats of the one before, at most.
    pub overlap: usize,
}

/// A passage, not yet embedded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    /// Its bytes in the text.
    pub range: Range<usize>,
    /// How many of them repeat the passage before.
    pub overlap: usize,
    /// The headings above it, outermost first.
    pub heading_path: Vec<String>,
    /// The title and the headings that are not in its own text, a line each.
    prefix: String,
}

impl Cut {
    /// Returns what the model reads for this passage of `text`.
    pub fn embedding_text(&self, text: &str) -> String {
        let body = text[self.range.clone()].trim();
        match (self.prefix.is_empty(), body.is_empty()) {
            (true, _) => body.to_owned(),
            (_, true) => self.prefix.clone(),
            _ => format!("{}\n{body}", self.prefix),
        }
    }
}

/// Cuts a text; the passages cover it without a gap. A text without words is one passage.
pub(super) fn cut(
    title: &str,
    text: &str,
    headings: &[Heading],
    window: Window,
    tokenizer: &Tokenizer,
) -> Result<Vec<Cut>> {
    let length = |line: &str| Ok(if line.is_empty() { 0 } else { tokenizer(line)?.len() + 1 });
    let cutter = Cutter {
        text,
        headings,
        window,
        starts: token_starts(text, tokenizer)?,
        title: Line { text: title, tokens: length(title)? },
        heading_tokens: headings.iter().map(|heading| length(&heading.text)).collect::<Result<_>>()?,
        tokenizer,
    };
    let mut cuts = Vec::new();
    for group in cutter.groups() {
        cutter.split(&group, &mut cuts)?;
    }
    Ok(cuts)
}

/// One line of a prefix: its tokens include one for the line's end, which some tokenizers count.
#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    tokens: usize,
}

struct Cutter<'a> {
    text: &'a str,
    headings: &'a [Heading],
    window: Window,
    starts: Vec<usize>,
    title: Line<'a>,
    heading_tokens: Vec<usize>,
    tokenizer: &'a Tokenizer<'a>,
}

/// Neighbouring sections that are one passage, if they fit.
#[derive(Debug, Clone)]
struct Group {
    range: Range<usize>,
    /// The headings that all of it is under, as indices.
    path: Vec<usize>,
    tokens: usize,
    /// Whether nothing but headings is in it.
    bare: bool,
}

impl Cutter<'_> {
    fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for section in self.sections() {
            match groups.last_mut() {
                Some(last) if self.belong_together(last, &section) => last.absorb(section),
                _ => groups.push(section),
            }
        }
        groups
    }

    /// Returns what is before the first heading, and each heading with what is under it.
    fn sections(&self) -> Vec<Group> {
        let first = self.headings.first().map_or(self.text.len(), |heading| heading.start);
        let mut sections = Vec::new();
        if first > 0 || self.headings.is_empty() {
            sections.push(self.section(0..first, 0, Vec::new()));
        }
        let mut path: Vec<usize> = Vec::new();
        for (index, heading) in self.headings.iter().enumerate() {
            path.retain(|above| self.headings[*above].level < heading.level);
            path.push(index);
            let end = self.headings.get(index + 1).map_or(self.text.len(), |next| next.start);
            sections.push(self.section(heading.start..end, heading.end, path.clone()));
        }
        sections
    }

    fn section(&self, range: Range<usize>, body: usize, path: Vec<usize>) -> Group {
        let bare = self.text[body.min(range.end)..range.end].trim().is_empty();
        Group { tokens: self.index(range.end) - self.index(range.start), bare, range, path }
    }

    /// A bare heading goes with what follows it; small sections with their neighbours under the same heading, while they fit.
    fn belong_together(&self, last: &Group, next: &Group) -> bool {
        let under = next.path.starts_with(&last.path);
        let beside = parent(&last.path) == parent(&next.path);
        let small = self.window.tokens / SMALL;
        let path = last.path_with(next);
        last.bare
            || ((under || beside)
                && (last.tokens < small || next.tokens < small)
                && last.tokens + next.tokens <= self.room(&path))
    }

    /// Returns the tokens that a passage's own text may have under these headings.
    fn room(&self, path: &[usize]) -> usize {
        let above = self.title.tokens + path.iter().map(|index| self.heading_tokens[*index]).sum::<usize>();
        self.window.tokens - above.min(self.window.tokens / 2)
    }

    fn split(&self, group: &Group, cuts: &mut Vec<Cut>) -> Result<()> {
        let room = self.room(&group.path);
        let overlap = self.window.overlap.min(room / 4);
        let (mut start, mut fresh) = (group.range.start, group.range.start);
        while self.index(group.range.end) - self.index(start) > room {
            let first = self.index(start);
            let earliest = self.starts[first + room / 2].max(self.text.ceil_char_boundary(fresh + 1));
            let end = boundary(self.text, earliest, self.starts[first + room].max(earliest));
            cuts.push(self.passage(start..end, fresh - start, group)?);
            (start, fresh) = (self.overlap_start(end, overlap), end);
        }
        cuts.push(self.passage(start..group.range.end, fresh - start, group)?);
        Ok(())
    }

    fn passage(&self, range: Range<usize>, overlap: usize, group: &Group) -> Result<Cut> {
        let heading_path = group.path.iter().map(|index| self.headings[*index].text.clone()).collect();
        Ok(Cut { prefix: self.prefix(&range, &group.path)?, range, overlap, heading_path })
    }

    /// Returns the title and the headings that the passage does not show itself, at most half the window long.
    fn prefix(&self, range: &Range<usize>, path: &[usize]) -> Result<String> {
        let inside = |heading: &Heading| range.contains(&heading.start);
        let first = self.headings.partition_point(|heading| heading.start < range.start);
        let shown = self.headings[first..].iter().take_while(|heading| inside(heading));
        let repeated = shown.chain(path.iter().map(|index| &self.headings[*index]));
        let title = Some(self.title).filter(|title| repeated.into_iter().all(|heading| heading.text != title.text));
        let above = path.iter().filter(|index| !inside(&self.headings[**index]));
        let above = above.map(|index| Line { text: &self.headings[*index].text, tokens: self.heading_tokens[*index] });
        self.fit(title.into_iter().chain(above).filter(|line| !line.text.is_empty()))
    }

    fn fit<'l>(&self, lines: impl Iterator<Item = Line<'l>>) -> Result<String> {
        let mut left = self.window.tokens / 2;
        let mut prefix = Vec::new();
        for line in lines {
            if line.tokens > left {
                let offsets = (self.tokenizer)(line.text)?;
                let end = offsets.get(left.saturating_sub(1)).map_or(0, |(start, _)| *start);
                prefix.push(&line.text[..line.text.floor_char_boundary(end)]);
                break;
            }
            left -= line.tokens;
            prefix.push(line.text);
        }
        Ok(prefix.join("\n").trim_end().to_owned())
    }

    /// Returns the first word within `overlap` tokens before `end`, or `end`.
    fn overlap_start(&self, end: usize, overlap: usize) -> usize {
        let from = self.starts[self.index(end).saturating_sub(overlap)..].first().map_or(end, |start| *start);
        (from..end).find(|at| *at > 0 && is_word_start(self.text, *at)).unwrap_or(end)
    }

    /// Returns how many tokens begin before a byte.
    fn index(&self, byte: usize) -> usize {
        self.starts.partition_point(|start| *start < byte)
    }
}

impl Group {
    fn absorb(&mut self, next: Self) {
        self.path = self.path_with(&next);
        self.range.end = next.range.end;
        self.tokens += next.tokens;
        self.bare &= next.bare;
    }

    /// Returns the path of both together: what is under a bare heading keeps its own, more telling one.
    fn path_with(&self, next: &Self) -> Vec<usize> {
        if self.bare {
            return next.path.clone();
        }
        self.path.iter().zip(&next.path).take_while(|(ours, theirs)| ours == theirs).map(|(ours, _)| *ours).collect()
    }
}

fn parent(path: &[usize]) -> &[usize] {
    &path[..path.len().saturating_sub(1)]
}

/// Returns where tokens begin, in rising order, each at a character's beginning and no two further apart than
/// [`BYTES_PER_TOKEN_MAX`].
fn token_starts(text: &str, tokenizer: &Tokenizer) -> Result<Vec<usize>> {
    let mut starts = Vec::with_capacity(text.len() / 4);
    let mut covered = 0;
    for piece in pieces(text) {
        for (start, _) in tokenizer(&text[piece.clone()])? {
            let start = text.floor_char_boundary(piece.start + start);
            fill(text, &mut covered, start, &mut starts);
            starts.push(start.max(starts.last().copied().unwrap_or(0)));
            covered = covered.max(start);
        }
    }
    fill(text, &mut covered, text.len(), &mut starts);
    Ok(starts)
}

fn fill(text: &str, covered: &mut usize, end: usize, starts: &mut Vec<usize>) {
    while end.saturating_sub(*covered) > BYTES_PER_TOKEN_MAX {
        *covered = text.floor_char_boundary(*covered + BYTES_PER_TOKEN_MAX);
        starts.push(*covered);
    }
}

/// Returns a text in pieces that end after white space where there is some.
fn pieces(text: &str) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let limit = text.floor_char_boundary(start + PIECE_BYTES);
        let space =
            text[start..limit].rfind(char::is_whitespace).map(|space| text.ceil_char_boundary(start + space + 1));
        at = if limit == text.len() { limit } else { space.unwrap_or(limit) };
        (start < at).then_some(start..at)
    })
}

/// How good a place is to cut at, the best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Word,
    Line,
    Sentence,
    Paragraph,
}

/// Returns the last of the best places in `earliest..=latest`, or `latest` when there is none.
fn boundary(text: &str, earliest: usize, latest: usize) -> usize {
    let inside = text[earliest..latest].char_indices().map(|(at, _)| earliest + at).chain([latest]);
    let places = inside.filter_map(|at| Some((place(text, at)?, at)));
    places.max().map_or(latest, |(_, at)| at)
}

/// Returns what begins at a byte, by what is before it; `None` in the middle of a word or of white space.
fn place(text: &str, at: usize) -> Option<Place> {
    if !is_word_start(text, at) {
        // Full stops of Chinese and Japanese need no space after them.
        return text[..at].ends_with(['。', '！', '？']).then_some(Place::Sentence);
    }
    let before = text[..at].trim_end();
    let ended = before.trim_end_matches(['"', '\'', ')', ']', '*', '_']).ends_with(['.', '!', '?', '。', '！', '？']);
    Some(match text[before.len()..at].matches('\n').count() {
        2.. => Place::Paragraph,
        _ if ended => Place::Sentence,
        1 => Place::Line,
        _ => Place::Word,
    })
}

/// Whether a word begins at a byte: a character that is no white space, after white space.
fn is_word_start(text: &str, at: usize) -> bool {
    text.is_char_boundary(at)
        && text[at..].chars().next().is_some_and(|next| !next.is_whitespace())
        && text[..at].chars().next_back().is_none_or(char::is_whitespace)
}

#[cfg(test)]
mod tests;
