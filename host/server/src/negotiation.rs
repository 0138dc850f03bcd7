//! Content negotiation for `/metrics`: RFC 9110, sections 12.5.1 and 12.5.3.

use axum::http::{HeaderMap, HeaderName, header};
use conductor_engine::metrics::prometheus::ExpositionFormat;

/// The format and compression negotiated with a scraper.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct NegotiatedFormat {
    pub(super) format: ExpositionFormat,
    pub(super) gzip: bool,
}

impl NegotiatedFormat {
    /// Returns the text format unless OpenMetrics is preferred, and no compression unless gzip is accepted.
    pub(super) fn by(headers: &HeaderMap) -> Self {
        let open = weight(headers, &header::ACCEPT, |name| {
            name == "application/openmetrics-text"
        });
        let text = weight(headers, &header::ACCEPT, |name| name == "text/plain");
        let gzip = weight(headers, &header::ACCEPT_ENCODING, |name| name == "gzip");
        let format = match open {
            Some(open) if open > 0.0 && text.is_none_or(|text| open > text) => {
                ExpositionFormat::OpenMetrics
            }
            _ => ExpositionFormat::Text,
        };
        Self {
            format,
            gzip: gzip.is_some_and(|weight| weight > 0.0),
        }
    }
}

/// Returns the greatest weight that a header gives to a name, 0–1.
fn weight(headers: &HeaderMap, header: &HeaderName, is: impl Fn(&str) -> bool) -> Option<f64> {
    let values = headers.get_all(header).into_iter();
    let items = values.filter_map(|value| value.to_str().ok());
    items
        .flat_map(|value| value.split(','))
        .filter_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let name = parts.next().unwrap_or("").to_ascii_lowercase();
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            is(&name).then(|| weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
        })
        .max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &str, encoding: &str) -> (ExpositionFormat, bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        headers.insert(header::ACCEPT_ENCODING, encoding.parse().unwrap());
        let NegotiatedFormat { format, gzip } = NegotiatedFormat::by(&headers);
        (format, gzip)
    }

    #[test]
    fn the_scrapers_weights_decide() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        assert_eq!(
            wanted(prometheus, "gzip"),
            (ExpositionFormat::OpenMetrics, true)
        );
        let text_first = "application/openmetrics-text;q=0.4, text/plain;version=0.0.4;q=0.5";
        assert_eq!(
            wanted(text_first, "deflate, gzip;q=0.5"),
            (ExpositionFormat::Text, true)
        );
        assert_eq!(
            wanted("*/*", "identity, gzip;q=0"),
            (ExpositionFormat::Text, false),
            "as curl asks, and a browser's proxy may"
        );
        assert_eq!(
            wanted("application/openmetrics-text; q=0", "br"),
            (ExpositionFormat::Text, false)
        );
        assert_eq!(
            NegotiatedFormat::by(&HeaderMap::new()),
            NegotiatedFormat {
                format: ExpositionFormat::Text,
                gzip: false
            }
        );
    }
}
