//! Any bytes are parsed as a manifest or refused, and a parsed manifest obeys the rules.
#![no_main]

use conductor_plugin_api::manifest::{Manifest, is_valid_id};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    match Manifest::parse(bytes) {
        Ok(manifest) => {
            assert!(is_valid_id(manifest.id.as_bytes()));
            for text in [&manifest.version, &manifest.name] {
                assert!(!text.is_empty() && !text.contains(char::is_control));
            }
        }
        Err(error) => assert!(!error.to_string().contains(char::is_control)),
    }
});
