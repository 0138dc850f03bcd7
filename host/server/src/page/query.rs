//! The platforms that a page shows, by the query string of its URL.

use conductor_types::views::PlatformView;

/// The selection of platforms and its display.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct PlatformQuery {
    pub(super) show: StateFilter,
    /// Lower-case; empty for all.
    pub(super) search: String,
    /// The label they are grouped by.
    pub(super) group: Option<String>,
}

/// A filter by state.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum StateFilter {
    #[default]
    All,
    /// Unhealthy platforms, and those whose last check failed.
    Problems,
    /// Degraded platforms and out-of-date results, too.
    Troubled,
}

impl StateFilter {
    pub(super) const ALL: [Self; 3] = [Self::All, Self::Problems, Self::Troubled];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Problems => "problems",
            Self::Troubled => "troubled",
        }
    }

    /// Returns the last rank shown.
    pub(super) fn last_rank(self) -> u8 {
        match self {
            Self::Problems => 1,
            Self::Troubled => 3,
            Self::All => 9,
        }
    }
}

impl PlatformQuery {
    pub(super) fn of(query: &[(String, String)]) -> Self {
        let get = |wanted: &str| {
            let found = query.iter().find(|(key, _)| key == wanted);
            found.map_or("", |(_, value)| value.trim())
        };
        let show = StateFilter::ALL
            .into_iter()
            .find(|s| s.word() == get("show"));
        let group = get("group");
        Self {
            show: show.unwrap_or_default(),
            search: get("q").to_lowercase(),
            group: (!group.is_empty()).then(|| group.to_owned()),
        }
    }

    /// Returns `true` if a platform of this rank is selected.
    pub(super) fn takes(&self, view: &PlatformView, rank: u8) -> bool {
        let has = |text: &str| text.to_lowercase().contains(&self.search);
        rank <= self.show.last_rank()
            && (self.search.is_empty()
                || has(&view.name)
                || has(&view.plugin)
                || has(&view.message)
                || view.labels.iter().any(|(k, v)| has(&format!("{k}={v}"))))
    }

    /// Returns the URL of the same selection with this filter.
    pub(super) fn showing(&self, show: StateFilter) -> String {
        Self {
            show,
            ..self.clone()
        }
        .address()
    }

    /// Returns the URL of the same selection in these groups.
    pub(super) fn grouped(&self, group: Option<&str>) -> String {
        Self {
            group: group.map(str::to_owned),
            ..self.clone()
        }
        .address()
    }

    /// Returns the URL of this selection.
    pub(super) fn address(&self) -> String {
        let parts = [
            ("show", self.show.word()),
            ("q", &self.search),
            ("group", self.group.as_deref().unwrap_or("")),
        ];
        let parts = parts.iter().filter(|(_, value)| !value.is_empty());
        let parts: Vec<_> = parts
            .map(|(key, value)| format!("{key}={}", escaped(value)))
            .collect();
        if parts.is_empty() {
            "/".to_owned()
        } else {
            format!("/?{}", parts.join("&"))
        }
    }
}

/// Escapes a text for a URL.
pub(super) fn escaped(text: &str) -> String {
    let bytes = text.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    });
    bytes.collect()
}
