//! Any bytes are accepted or refused as a library, with a message that is safe to print.
#![no_main]

use conductor_library::inspect_bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let inspection = inspect_bytes(bytes);
    let shown = inspection.to_string();
    assert!(
        !shown.contains(|c: char| c.is_control() && c != '\n'),
        "{shown:?}"
    );
    assert!(serde_json::to_string(&inspection).is_ok());
    // An accepted library has been read to the end: no fact about it is missing.
    if inspection.refusal().is_none() {
        assert!(inspection.manifest.is_some() && inspection.kind.is_some());
    }
});
