//! The words of a query. Whatever a text holds, what comes out is letters and digits only, so none of it is ever syntax.

use std::collections::HashSet;

use super::Language;
use crate::domain::limits;

/// English words that say nothing of a subject: articles, prepositions, conjunctions, pronouns, auxiliary verbs, question
/// words, and what apostrophes leave behind. In order.
const FUNCTION_WORDS: [&str; 109] = [
    "a", "about", "after", "all", "also", "am", "an", "and", "any", "are", "as", "at", "be", "because", "been",
    "before", "being", "between", "both", "but", "by", "can", "could", "d", "did", "do", "does", "doing", "done",
    "each", "for", "from", "had", "has", "have", "having", "he", "her", "here", "him", "his", "how", "i", "if", "in",
    "into", "is", "it", "its", "just", "ll", "m", "me", "more", "most", "my", "no", "nor", "not", "of", "on", "or",
    "our", "out", "over", "re", "s", "she", "should", "so", "some", "such", "t", "than", "that", "the", "their",
    "them", "then", "there", "these", "they", "this", "those", "through", "to", "too", "under", "until", "up", "us",
    "ve", "very", "was", "we", "were", "what", "when", "where", "which", "while", "who", "whom", "why", "will", "with",
    "would", "you", "your",
];

/// Returns the distinct words of a text in their order, in lower case, at most
/// [`limits::LEXICAL_TERMS_MAX`]; function words only where there is nothing else.
pub(super) fn of(text: &str, language: Language) -> Vec<String> {
    let is_function_word = |word: &str| language == Language::English && FUNCTION_WORDS.binary_search(&word).is_ok();
    let telling = distinct(text, |word| !is_function_word(word));
    if telling.is_empty() { distinct(text, |_| true) } else { telling }
}

fn distinct(text: &str, keep: impl Fn(&str) -> bool) -> Vec<String> {
    let mut seen = HashSet::new();
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase);
    words.filter(|word| keep(word) && seen.insert(word.clone())).take(limits::LEXICAL_TERMS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_function_words_are_in_order() {
        assert!(FUNCTION_WORDS.is_sorted());
    }

    #[test]
    fn words_are_distinct_and_in_lower_case() {
        assert_eq!(of("Tides: TIDES; «Größe» x2 a\0b", Language::None), ["tides", "größe", "x2", "a", "b"]);
    }

    #[test]
    fn function_words_count_only_where_nothing_else_does() {
        assert_eq!(of("What is the tide?", Language::English), ["tide"]);
        assert_eq!(of("to be or not to be", Language::English), ["to", "be", "or", "not"]);
        assert_eq!(of("What is it", Language::None), ["what", "is", "it"]);
        assert!(of("?! \u{1F980}", Language::English).is_empty());
    }

    #[test]
    fn a_long_text_has_as_many_words_as_are_allowed() {
        let text: String = (0..1_000).map(|number| format!("w{number} ")).collect();
        assert_eq!(of(&text, Language::English).len(), limits::LEXICAL_TERMS_MAX);
    }
}
