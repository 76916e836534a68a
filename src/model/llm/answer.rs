//! What a language model's answer is worth: nothing that it says is believed before it is checked.

use serde::Deserialize;
use serde_json::Value;

use crate::domain::{Degradation, DegradationReason};
use crate::model::scored::Scored;

#[derive(Deserialize)]
struct Answer {
    ranking: Vec<Value>,
}

/// Reads grades of the first `passages` of `texts` texts, of which `wanted` should be named.
///
/// Entries that name no passage, or one that was named before, or whose score is no number in [0, 1], are dropped. What is
/// left counts; when it is not all that was wanted, that is said.
pub(super) fn read(content: &str, texts: usize, passages: usize, wanted: usize) -> Scored {
    let Some(answer) = parse(content) else {
        let message = "the language model's answer is not the JSON asked for";
        return Scored::nothing(texts, DegradationReason::InvalidAnswer, message);
    };
    let mut grades: Vec<(usize, f32)> = Vec::with_capacity(passages);
    for (place, score) in answer.ranking.iter().filter_map(|entry| grade(entry, passages)) {
        if grades.iter().all(|(known, _)| *known != place) {
            grades.push((place, score));
        }
    }
    grades.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    grades.truncate(wanted);
    let degraded = (grades.len() < wanted).then(|| Degradation {
        reason: DegradationReason::InvalidAnswer,
        message: format!("the language model graded {} of {wanted} passages in a usable way", grades.len()),
    });
    let mut scores = vec![None; texts];
    grades.into_iter().for_each(|(place, score)| scores[place] = Some(score));
    Scored { scores, degraded }
}

/// Reads the answer's JSON, around which some models put a fence of Markdown.
fn parse(content: &str) -> Option<Answer> {
    let json = content.get(content.find('{')?..=content.rfind('}')?)?;
    serde_json::from_str(json).ok()
}

/// Returns a passage's place, from 0, and its grade.
fn grade(entry: &Value, passages: usize) -> Option<(usize, f32)> {
    let place = usize::try_from(entry["id"].as_u64()?.checked_sub(1)?).ok()?;
    let score = entry["score"].as_f64().filter(|score| (0.0..=1.0).contains(score))?;
    (place < passages).then_some((place, score as f32))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(content: &str) -> (Vec<Option<f32>>, Option<DegradationReason>) {
        let scored = read(content, 4, 3, 3);
        (scored.scores, scored.degraded.map(|degraded| degraded.reason))
    }

    #[test]
    fn a_good_answer_grades_every_passage() {
        let content = r#"{"ranking": [{"id": 2, "score": 1}, {"id": 1, "score": 0.5}, {"id": 3, "score": 0}]}"#;
        let expected = (vec![Some(0.5), Some(1.0), Some(0.0), None], None);
        assert_eq!(scores(content), expected);
        assert_eq!(scores(&format!("```json\n{content}\n```")), expected);
    }

    #[test]
    fn what_is_no_grade_of_a_passage_is_dropped_and_the_rest_counts() {
        for wrong in [
            r#"{"id": 4, "score": 0.9}"#,
            r#"{"id": 0, "score": 0.9}"#,
            r#"{"id": -1, "score": 0.9}"#,
            r#"{"id": 1.5, "score": 0.9}"#,
            r#"{"id": "1", "score": 0.9}"#,
            r#"{"id": 99999999999999999999, "score": 0.9}"#,
            r#"{"id": 2, "score": 0.9}"#,
            r#"{"id": 1, "score": 1.01}"#,
            r#"{"id": 1, "score": -0.5}"#,
            r#"{"id": 1, "score": "NaN"}"#,
            r#"{"id": 1, "score": null}"#,
            r#"{"id": 1}"#,
            "7",
            "null",
            "[]",
        ] {
            let content =
                format!(r#"{{"ranking": [{{"id": 2, "score": 0.25}}, {wrong}, {{"id": 3, "score": 0.75}}]}}"#);
            let expected = (vec![None, Some(0.25), Some(0.75), None], Some(DegradationReason::InvalidAnswer));
            assert_eq!(scores(&content), expected, "{wrong}");
        }
    }

    #[test]
    fn of_more_than_was_wanted_the_best_count() {
        let content = r#"{"ranking": [{"id": 2, "score": 0.7}, {"id": 3, "score": 0.9}, {"id": 1, "score": 0.8}]}"#;
        let scored = read(content, 3, 3, 2);
        assert_eq!((scored.scores, scored.degraded), (vec![Some(0.8), None, Some(0.9)], None));
    }

    #[test]
    fn what_is_no_answer_grades_nothing() {
        for content in [
            "",
            "} {",
            "I cannot do that.",
            "[1, 2, 3]",
            r#"{"ranking": "#,
            r#"{"ranking": [{"id": 1, "score": NaN}]}"#,
            r#"{"ranking": [{"id": 1, "score": 1e999}]}"#,
            r#"{"ranking": 7}"#,
            r#"{"order": []}"#,
            r#"{"ranking": []}"#,
        ] {
            let expected = (vec![None; 4], Some(DegradationReason::InvalidAnswer));
            assert_eq!(scores(content), expected, "{content}");
        }
    }
}
