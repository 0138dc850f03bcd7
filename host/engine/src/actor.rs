//! The origin of an operator's action, as the log names it.

use std::{fmt, sync::Arc};

/// The origin of an operator's action: a reload, a check, an order to a breaker, maintenance.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ActionOrigin {
    /// A request that was not authenticated, because the host requires no password or certificate.
    #[default]
    Unauthenticated,
    /// A request with this user's password.
    User(Arc<str>),
    /// A request over a connection with a verified client certificate, by its subject.
    Certificate(Arc<str>),
    /// SIGHUP, or on Windows the control of a service or the event of `conductor reload`.
    Signal,
}

impl ActionOrigin {
    /// Returns the name by which the actor was authenticated: the user, or the subject of the certificate.
    #[must_use]
    pub fn authenticated(&self) -> Option<&Arc<str>> {
        match self {
            Self::User(name) | Self::Certificate(name) => Some(name),
            Self::Unauthenticated | Self::Signal => None,
        }
    }
}

impl fmt::Display for ActionOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unauthenticated => f.write_str("anonymous operator"),
            // Names come from files, and the log goes to terminals.
            Self::User(name) => write!(f, "operator {}", name.escape_debug()),
            Self::Certificate(subject) => {
                write!(f, "operator with certificate {}", subject.escape_debug())
            }
            Self::Signal if cfg!(windows) => f.write_str("local request"),
            Self::Signal => f.write_str("SIGHUP"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_named_without_control_characters() {
        assert_eq!(
            ActionOrigin::User("alice".into()).to_string(),
            "operator alice"
        );
        let hostile = ActionOrigin::User("a\u{1b}[31m\n".into()).to_string();
        assert_eq!(hostile, "operator a\\u{1b}[31m\\n");
        let subject = ActionOrigin::Certificate("CN=ops".into()).to_string();
        assert_eq!(subject, "operator with certificate CN=ops");
    }
}
