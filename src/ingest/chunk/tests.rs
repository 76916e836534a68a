//! Where texts are cut.

use proptest::prelude::*;

use super::super::markdown::outline;
use super::*;

/// A tokenizer whose tokens are words.
fn words(text: &str) -> Result<Vec<(usize, usize)>> {
    let starts = text.split_whitespace().map(|word| word.as_ptr() as usize - text.as_ptr() as usize);
    Ok(starts.zip(text.split_whitespace()).map(|(start, word)| (start, start + word.len())).collect())
}

fn cut_words(title: &str, text: &str, tokens: usize, overlap: usize) -> Vec<Cut> {
    cut(title, text, &outline(text).headings, Window { tokens, overlap }, &words).unwrap()
}

fn texts<'a>(cuts: &[Cut], text: &'a str) -> Vec<&'a str> {
    cuts.iter().map(|cut| text[cut.range.clone()].trim()).collect()
}

fn rebuilt(cuts: &[Cut], text: &str) -> String {
    cuts.iter().map(|cut| &text[cut.range.start + cut.overlap..cut.range.end]).collect()
}

/// `count` words in sentences of five.
fn prose(count: usize) -> String {
    (1..=count).map(|n| format!("w{n}{} ", if n % 5 == 0 { "." } else { "" })).collect()
}

#[test]
fn a_text_that_fits_is_one_passage_under_its_title() {
    let cuts = cut_words("The title", "Some words.", 32, 4);
    assert_eq!(cuts.len(), 1);
    assert_eq!(cuts[0].embedding_text("Some words."), "The title\nSome words.");
}

#[test]
fn sections_that_are_not_small_stay_apart() {
    let text = format!("# A\n{}\n# B\n{}", prose(20), prose(20));
    let cuts = cut_words("", &text, 40, 4);
    assert_eq!(cuts.iter().map(|cut| cut.heading_path.clone()).collect::<Vec<_>>(), [["A"], ["B"]]);
    assert!(cuts.iter().all(|cut| cut.overlap == 0));
}

#[test]
fn small_neighbours_share_a_passage() {
    let text = "# A\nintro\n## B\none\n## C\ntwo\n";
    let cuts = cut_words("", text, 64, 4);
    assert_eq!(texts(&cuts, text), [text.trim()]);
    assert_eq!(cuts[0].heading_path, ["A"]);
}

#[test]
fn small_sections_under_other_headings_stay_apart() {
    let text = format!("# A\n{0}\n## B\nsmall\n# C\n{0}", prose(50));
    let cuts = cut_words("", &text, 64, 4);
    assert_eq!(cuts.last().unwrap().heading_path, ["C"]);
    assert!(!texts(&cuts, &text).iter().any(|passage| passage.contains("small") && passage.contains("# C")));
}

#[test]
fn a_bare_heading_goes_with_what_is_under_it() {
    let text = format!("# A\n\n## B\n{}", prose(100));
    let cuts = cut_words("", &text, 40, 4);
    assert!(text[cuts[0].range.clone()].starts_with("# A\n\n## B\nw1 "));
    assert!(cuts.iter().all(|cut| cut.heading_path == ["A", "B"]));
}

#[test]
fn a_passage_is_embedded_under_the_headings_it_does_not_show() {
    let text = format!("# A\n{}\n## B\n{}", prose(20), prose(60));
    let cuts = cut_words("Title", &text, 40, 4);
    let embedded: Vec<String> = cuts.iter().map(|cut| cut.embedding_text(&text)).collect();
    assert!(embedded[0].starts_with("Title\n# A\nw1"), "{}", embedded[0]);
    assert!(embedded[1].starts_with("Title\nA\n## B\nw1"), "{}", embedded[1]);
    assert!(embedded[2].starts_with("Title\nA\nB\nw"), "{}", embedded[2]);
}

#[test]
fn a_title_that_is_a_heading_is_not_repeated() {
    let text = format!("# Same\n{}", prose(60));
    for cut in cut_words("Same", &text, 40, 4) {
        assert_eq!(cut.embedding_text(&text).matches("Same").count(), 1);
    }
}

#[test]
fn a_long_section_is_cut_after_sentences_with_overlap() {
    let text = prose(100);
    let cuts = cut_words("", &text, 32, 6);
    for pair in cuts.windows(2) {
        assert!(text[pair[0].range.clone()].trim_end().ends_with('.'));
        assert_eq!(text[pair[1].range.clone()][..pair[1].overlap].split_whitespace().count(), 6);
    }
    assert_eq!(rebuilt(&cuts, &text), text);
}

#[test]
fn paragraphs_are_better_places_than_sentences() {
    let text = format!("{}\n\n{}", prose(20), prose(20));
    let cuts = cut_words("", &text, 32, 0);
    assert_eq!(text[cuts[0].range.clone()], format!("{}\n\n", prose(20)));
}

#[test]
fn the_first_passage_is_as_long_as_fits() {
    let text = prose(40);
    assert_eq!(words(&text[cut_words("", &text, 32, 0)[0].range.clone()]).unwrap().len(), 30);
}

#[test]
fn a_long_title_leaves_half_the_window() {
    let text = prose(100);
    for cut in cut_words(&prose(500), &text, 32, 4) {
        let length = words(&cut.embedding_text(&text)).unwrap().len();
        assert!((16..=32).contains(&length), "{length}");
    }
}

#[test]
fn a_text_without_words_is_one_passage() {
    for text in ["", " \n\n "] {
        let cuts = cut_words("Title", text, 32, 4);
        assert_eq!(cuts.len(), 1);
        assert_eq!(cuts[0].embedding_text(text), "Title");
        assert_eq!(rebuilt(&cuts, text), text);
    }
}

#[test]
fn one_endless_word_is_cut_all_the_same() {
    for unit in ["x", "é", "𝄞", " ", "\n"] {
        let text = unit.repeat((1 << 20) / unit.len());
        let cuts = cut_words("", &text, 64, 8);
        assert!(cuts.iter().all(|cut| cut.range.len() <= 66 * BYTES_PER_TOKEN_MAX));
        assert_eq!(rebuilt(&cuts, &text), text);
    }
}

#[test]
fn chinese_is_cut_after_its_full_stops() {
    let each_character = |text: &str| -> Result<Vec<(usize, usize)>> {
        Ok(text.char_indices().map(|(at, c)| (at, at + c.len_utf8())).collect())
    };
    let text = "一二三四五六七。".repeat(30);
    let cuts = cut("", &text, &[], Window { tokens: 50, overlap: 8 }, &each_character).unwrap();
    assert!(cuts.len() > 4);
    assert!(cuts.iter().all(|cut| text[cut.range.clone()].ends_with('。')));
}

/// Text with the characters that matter to cutting more often than chance has them.
fn markdown() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => "[a-zé]{1,9}[ .]",
        1 => Just("\n\n".to_owned()),
        1 => "\n#{1,6} [a-z]{0,8}\n",
        1 => "\n[a-z]{1,8}\n(===|---)\n",
        1 => Just("\n```\n# code\n```\n".to_owned()),
        1 => Just("> # q\n- # l\n".to_owned()),
        1 => "\\PC{0,12}",
        1 => "[ \\r\\n\\t]{1,4}",
    ];
    proptest::collection::vec(piece, 0..120).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn passages_cover_the_text_and_fit_the_window(
        text in markdown(), title in "[a-z ]{0,40}", tokens in 16usize..64, overlap in 0usize..40
    ) {
        let cuts = cut_words(&title, &text, tokens, overlap);
        prop_assert_eq!(rebuilt(&cuts, &text), text.as_str());
        for cut in &cuts {
            prop_assert!(words(&cut.embedding_text(&text)).unwrap().len() <= tokens);
            prop_assert!(cut.overlap < cut.range.len().max(1));
        }
    }

    #[test]
    fn any_unicode_is_cut(text in "\\PC{0,400}", tokens in 16usize..40) {
        prop_assert_eq!(rebuilt(&cut_words("t", &text, tokens, 4), &text), text.as_str());
    }
}
