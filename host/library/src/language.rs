//! The language that a library was written in, as far as its file shows: build advice and embedded runtimes depend on
//! it.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;
use conductor_plugin_api::manifest::Door;
use serde::{Deserialize, Serialize};

/// A language of plugins.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum PluginLanguage {
    /// Rust, through the Rust ABI.
    Rust,
    /// C, or another language without its own runtime, through the C ABI.
    C,
    /// C++.
    Cpp,
    /// Go, whose runtime starts as the library is loaded.
    Go,
}

impl PluginLanguage {
    /// Returns the language of a library with this ABI and content.
    pub fn of(door: Door, library: &[u8]) -> Self {
        if door == Door::Rust {
            return Self::Rust;
        }
        let mut found = Self::C;
        for mark in MARKS.find_iter(library) {
            match mark.pattern().as_usize() {
                // A Go library may have C++ linked into it.
                0 => return Self::Go,
                _ => found = Self::Cpp,
            }
        }
        found
    }

    /// Returns the runtime that starts with the library, and takes over signal handlers and threads of the whole
    /// process.
    pub fn runtime(self) -> Option<&'static str> {
        match self {
            Self::Go => Some("the Go runtime"),
            Self::Rust | Self::C | Self::Cpp => None,
        }
    }
}

/// Go's marker of its build information, which `strip` keeps; and the symbol C++ calls to unwind.
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
        assert_eq!(PluginLanguage::of(Door::C, go), PluginLanguage::Go);
        assert_eq!(
            PluginLanguage::of(Door::C, b"__gxx_personality_v0"),
            PluginLanguage::Cpp
        );
        assert_eq!(
            PluginLanguage::of(Door::C, b"GCC: (Debian)"),
            PluginLanguage::C
        );
        assert_eq!(PluginLanguage::of(Door::Rust, go), PluginLanguage::Rust);
    }
}
