//! Which status codes are expected.

use std::fmt;

use conductor_plugin_api::schemars;
use hyper::StatusCode;
use serde::Deserialize;

/// One status code, or all from the first to the last.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, schemars::JsonSchema)]
#[serde(try_from = "Written")]
pub(crate) struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// What a server says when all went well.
    pub(crate) const SUCCESS: Self = Self {
        first: 200,
        last: 299,
    };

    pub(crate) fn contains(self, status: StatusCode) -> bool {
        (self.first..=self.last).contains(&status.as_u16())
    }
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.first)?;
        if self.last > self.first {
            write!(f, "-{}", self.last)?;
        }
        Ok(())
    }
}

/// How people write it.
#[derive(Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a status code such as 200 or a range such as \"200-299\""
)]
enum Written {
    Number(u16),
    Range(String),
}

impl TryFrom<Written> for StatusRange {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let (first, last) = match &written {
            Written::Number(number) => (Some(*number), Some(*number)),
            Written::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                (first.parse().ok(), last.parse().ok())
            }
        };
        match (first, last) {
            (Some(first), Some(last)) if first >= 100 && first <= last && last <= 599 => {
                Ok(Self { first, last })
            }
            _ => Err(format!(
                "{written} is neither a status code from 100 to 599 nor a range of them such as \"200-299\""
            )),
        }
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Range(text) => write!(f, "{text:?}"),
        }
    }
}
