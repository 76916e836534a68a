//! Which text a scraper gets.

/// A text format of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextFormat {
    /// Prometheus' own, for whoever does not say.
    Prometheus,
    /// OpenMetrics 1.0, which has exemplars.
    OpenMetrics,
}

const OPEN_METRICS: &str = "application/openmetrics-text";

impl TextFormat {
    /// Returns the format that an `Accept` header prefers.
    ///
    /// Source: RFC 9110, «12.5.1. Accept».
    pub fn accepted(accept: &str) -> Self {
        let best = |is_it: fn(&str) -> bool| accept.split(',').map(|range| quality(range, is_it)).fold(0.0, f32::max);
        let open = best(|kind| kind == OPEN_METRICS);
        let plain = best(|kind| matches!(kind, "text/plain" | "text/*" | "*/*"));
        if open > 0.0 && open >= plain { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns how much a media range is wanted if it is of the kind; an OpenMetrics version other than 1.0.0 is not spoken.
fn quality(range: &str, is_it: fn(&str) -> bool) -> f32 {
    let mut parts = range.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if !is_it(&kind) {
        return 0.0;
    }
    let mut quality = 1.0;
    for (key, value) in parts.filter_map(|part| part.split_once('=')) {
        match key {
            "q" => quality = value.parse().unwrap_or(0.0),
            "version" if kind == OPEN_METRICS && value != "1.0.0" => return 0.0,
            _ => {}
        }
    }
    quality
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scraper_gets_what_it_prefers() {
        let prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,\
            application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;q=0.3,*/*;q=0.2";
        for (accept, format) in [
            ("", TextFormat::Prometheus),
            ("*/*", TextFormat::Prometheus),
            ("text/plain;q=0.5", TextFormat::Prometheus),
            (prometheus, TextFormat::OpenMetrics),
            ("application/openmetrics-text", TextFormat::OpenMetrics),
            ("application/openmetrics-text; version=1.0.0; q=0.2, text/plain", TextFormat::Prometheus),
            ("application/openmetrics-text;version=0.0.1", TextFormat::Prometheus),
            ("application/openmetrics-text;q=nonsense", TextFormat::Prometheus),
        ] {
            assert_eq!(TextFormat::accepted(accept), format, "{accept:?}");
        }
    }
}
