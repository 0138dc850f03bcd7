//! The needs that a plugin declares in its manifest, beyond the default permissions of a probe.

use std::{fmt, str::FromStr};

/// One permission a plugin needs beyond the defaults.
///
/// Authors and operators write its text form: `network`, `unix-sockets`, `read /var/lib/x`, `run /usr/bin/psql`. Paths
/// are absolute, plain, and without `.` and `..`.
///
/// ```
/// use conductor_plugin_api::manifest::Need;
///
/// assert_eq!("read /etc/x.conf".parse(), Ok(Need::Read("/etc/x.conf".to_owned())));
/// assert!("read x.conf".parse::<Need>().is_err());
/// ```
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Need {
    /// TCP, ICMP and other network traffic; every plugin may look up names and send plain UDP.
    Network,
    /// Connections to Unix sockets of this machine, such as a database's or a container engine's.
    UnixSockets,
    /// Reading a file, or a folder and all its content.
    Read(String),
    /// Running a program, or any program in a folder; it gets the plugin's permissions and no more.
    Run(String),
}

/// A text that is not a [`Need`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotANeed;

impl Need {
    /// The needs without a path, in their text form.
    pub const WORDS: [&'static str; 2] = [NETWORK, UNIX_SOCKETS];
}

impl FromStr for Need {
    type Err = NotANeed;

    fn from_str(text: &str) -> Result<Self, NotANeed> {
        if !is_valid_need(text.as_bytes()) {
            return Err(NotANeed);
        }
        Ok(match text.split_once(' ') {
            None if text == NETWORK => Self::Network,
            None => Self::UnixSockets,
            Some(("read", path)) => Self::Read(path.to_owned()),
            Some((_, path)) => Self::Run(path.to_owned()),
        })
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network => f.write_str(NETWORK),
            Self::UnixSockets => f.write_str(UNIX_SOCKETS),
            Self::Read(path) => write!(f, "read {path}"),
            Self::Run(path) => write!(f, "run {path}"),
        }
    }
}

impl fmt::Display for NotANeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a need is `network`, `unix-sockets`, `read PATH` or `run PATH`, with an absolute path without `.`, `..` and `//`",
        )
    }
}

impl std::error::Error for NotANeed {}

/// Returns `true` if `text` is the text form of a [`Need`].
pub const fn is_valid_need(text: &[u8]) -> bool {
    if is(text, NETWORK.as_bytes()) || is(text, UNIX_SOCKETS.as_bytes()) {
        return true;
    }
    let ([b'r', b'e', b'a', b'd', b' ', path @ ..] | [b'r', b'u', b'n', b' ', path @ ..]) = text
    else {
        return false;
    };
    is_plain_path(path)
}

/// Writes the needs into the manifest's field, one per line.
///
/// # Panics
/// At compile time, if one is malformed or they are too long for the field.
pub(super) const fn lines<const N: usize>(needs: &[&str]) -> [u8; N] {
    let mut field = [0; N];
    let (mut need, mut end) = (0, 0);
    while need < needs.len() {
        let text = needs[need].as_bytes();
        assert!(
            is_valid_need(text),
            "a plugin's need is \"network\", \"unix-sockets\", \"read PATH\" or \"run PATH\", with an absolute path without `.`, `..` and `//`"
        );
        assert!(
            end + text.len() < N,
            "a plugin's needs have at most 511 bytes in all, with one more for each"
        );
        let mut at = 0;
        while at < text.len() {
            field[end + at] = text[at];
            at += 1;
        }
        field[end + at] = b'\n';
        end += at + 1;
        need += 1;
    }
    field
}

/// Reads the manifest's field; returns the first malformed line, escaped, as the error.
pub(super) fn parse(field: &[u8]) -> Result<Vec<Need>, String> {
    let end = field.iter().position(|&b| b == 0).unwrap_or(field.len());
    let lines = field[..end].split(|&b| b == b'\n');
    lines
        .filter(|line| !line.is_empty())
        .map(|line| {
            let need = str::from_utf8(line).ok().and_then(|text| text.parse().ok());
            need.ok_or_else(|| line.escape_ascii().to_string())
        })
        .collect()
}

const fn is(text: &[u8], word: &[u8]) -> bool {
    if text.len() != word.len() {
        return false;
    }
    let mut at = 0;
    while at < text.len() {
        if text[at] != word[at] {
            return false;
        }
        at += 1;
    }
    true
}

/// Returns `true` for an absolute, printable path in canonical spelling, so that two needs can be compared as text.
const fn is_plain_path(path: &[u8]) -> bool {
    if path.is_empty() || path[0] != b'/' {
        return false;
    }
    let (mut at, mut segment) = (1, 1);
    while at <= path.len() {
        if at == path.len() || path[at] == b'/' {
            let whole_root = path.len() == 1;
            let length = at - segment;
            let dots = (length >= 1 && path[segment] == b'.')
                && (length == 1 || (length == 2 && path[segment + 1] == b'.'));
            if (length == 0 && !whole_root) || dots {
                return false;
            }
            segment = at + 1;
        } else if path[at] < b' ' || path[at] == 0x7f {
            return false;
        }
        at += 1;
    }
    true
}

const NETWORK: &str = "network";
const UNIX_SOCKETS: &str = "unix-sockets";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_need_is_read_as_it_is_written() {
        for text in [
            "network",
            "unix-sockets",
            "read /",
            "read /var/lib/x y",
            "read /a/.hidden/..b",
            "run /usr/bin/psql",
        ] {
            let need: Need = text.parse().expect(text);
            assert_eq!(need.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_need_is_refused() {
        for text in [
            "",
            "Network",
            "network ",
            "net",
            "read",
            "read ",
            "read x",
            "read  /x",
            "run /x/",
            "run /x//y",
            "read /x/../y",
            "read /.",
            "read /..",
            "write /x",
            "read /x\ny",
            "read /\x7f",
        ] {
            assert_eq!(text.parse::<Need>(), Err(NotANeed), "{text:?}");
        }
    }

    #[test]
    fn lines_are_read_back() {
        let field = lines::<64>(&["network", "read /x"]);
        assert_eq!(
            parse(&field),
            Ok(vec![Need::Network, Need::Read("/x".to_owned())])
        );
        assert_eq!(parse(&lines::<8>(&[])), Ok(Vec::new()));
        assert_eq!(parse(b"network\nread \xff\n"), Err("read \\xff".to_owned()));
    }
}
