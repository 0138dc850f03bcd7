//! Any bytes are read as the record of a dead host, and blame only plugins that can be at fault.
#![no_main]

use std::collections::BTreeSet;

use conductor_plugin_api::manifest::is_valid_id;
use conductor_runtime::call_journal::suspects_in;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let suspects = suspects_in(bytes);
    let plugins: BTreeSet<_> = suspects.iter().map(|s| &s.plugin).collect();
    assert_eq!(plugins.len(), suspects.len(), "named twice: {suspects:?}");
    for suspect in &suspects {
        assert!(is_valid_id(suspect.plugin.as_bytes()));
        assert_eq!(suspect.of, suspects.len());
        assert!(!suspect.to_string().contains(char::is_control));
    }
});
