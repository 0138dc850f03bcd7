//! The language that a library was written in, as far as its file tells: its build advice differs, and so does the runtime
//! that it brings along.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use conductor_plugin_api::manifest::Door;
use serde::{Deserialize, Serialize};

/// A language of plugins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum Language {
    /// Rust, through the Rust door.
    Rust,
    /// C, or another language without a runtime of its own, through the C door.
    C,
    /// C++.
    Cpp,
    /// Go, whose runtime starts as the library is loaded.
    Go,
}

impl Language {
    /// The language of a library with this door and content.
    pub fn of(door: Door, library: &[u8]) -> Self {
        if door == Door::Rust {
            return Self::Rust;
        }
        let mut found = Self::C;
        for mark in MARKS.find_iter(library) {
            match mark.pattern().as_usize() {
                // A Go library may well have C++ linked into it.
                0 => return Self::Go,
                _ => found = Self::Cpp,
            }
        }
        found
    }

    /// The runtime that starts with the library, and takes over signal handlers and threads of the whole process.
    pub fn runtime(self) -> Option<&'static str> {
        match self {
            Self::Go => Some("the Go runtime"),
            Self::Rust | Self::C | Self::Cpp => None,
        }
    }
}

/// What Go's linker writes before the build information, which `strip` leaves; and what C++ calls to unwind.
static MARKS: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::new([&b"\xff Go buildinf:"[..], b"__gxx_personality_v0"])
        .expect("a test builds it")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_language_is_known_by_its_door_and_by_what_its_compiler_leaves() {
        let go = b"__gxx_personality_v0 \xff Go buildinf:\x08";
        assert_eq!(Language::of(Door::C, go), Language::Go);
        assert_eq!(
            Language::of(Door::C, b"__gxx_personality_v0"),
            Language::Cpp
        );
        assert_eq!(Language::of(Door::C, b"GCC: (Debian)"), Language::C);
        assert_eq!(Language::of(Door::Rust, go), Language::Rust);
    }
}
