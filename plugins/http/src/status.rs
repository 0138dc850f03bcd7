//! Expected status codes.

use std::fmt;

use conductor_plugin_api::schemars;
use hyper::StatusCode;
use serde::Deserialize;

/// One status code, or a range of them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    /// The success codes, which are expected by default.
    pub(crate) const SUCCESS: Self = Self {
        first: 200,
        last: 299,
    };

    /// Returns true if all its codes are interim: no response ends with one.
    pub(crate) fn is_interim(self) -> bool {
        self.last < 200
    }

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

/// One entry of `expect_status`, as it is written.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a status code such as 200 or a range such as \"200-299\""
)]
pub(crate) enum ExpectedStatus {
    /// One status code.
    Number(#[schemars(range(min = 100, max = 599))] i64),
    /// A status code as text, or a range of them.
    Range(#[schemars(regex(pattern = RANGE))] String),
}

/// The rule that an entry of `expect_status` breaks.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StatusError {
    #[error("the range {written} ends before it begins; write \"{last}-{first}\"")]
    Order {
        written: ExpectedStatus,
        first: u16,
        last: u16,
    },
    #[error("{0} is neither a status code from 100 to 599 nor a range of them such as \"200-299\"")]
    NoStatus(ExpectedStatus),
}

impl TryFrom<&ExpectedStatus> for StatusRange {
    type Error = StatusError;

    fn try_from(written: &ExpectedStatus) -> Result<Self, StatusError> {
        let (first, last) = match written {
            ExpectedStatus::Number(number) => {
                let code = u16::try_from(*number).ok();
                (code, code)
            }
            ExpectedStatus::Range(text) => {
                let (first, last) = text.split_once('-').unwrap_or((text, text));
                (first.parse().ok(), last.parse().ok())
            }
        };
        let written = written.clone();
        match (first, last) {
            (Some(first), Some(last)) if first >= 100 && first <= last && last <= 599 => {
                Ok(Self { first, last })
            }
            (Some(first), Some(last)) if first > last && last >= 100 && first <= 599 => {
                Err(StatusError::Order {
                    written,
                    first,
                    last,
                })
            }
            _ => Err(StatusError::NoStatus(written)),
        }
    }
}

impl From<StatusRange> for ExpectedStatus {
    fn from(range: StatusRange) -> Self {
        Self::Range(range.to_string())
    }
}

impl fmt::Display for ExpectedStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Range(text) => write!(f, "{text:?}"),
        }
    }
}

/// One status code, or two of which the second is not of a lower hundred.
const RANGE: &str = "^(1[0-9]{2}(-[1-5][0-9]{2})?|2[0-9]{2}(-[2-5][0-9]{2})?|3[0-9]{2}(-[3-5][0-9]{2})?|4[0-9]{2}(-[45][0-9]{2})?|5[0-9]{2}(-5[0-9]{2})?)$";
