//! Exit codes of processes in words.

use super::KILLED;

/// Describes the end of a process, for example "ended with access violation (0xC0000005)".
pub fn describe(code: Option<u32>) -> String {
    match code {
        None => "ended".to_owned(),
        Some(code @ 0..=0xFFFF) => format!("exited with code {code}"),
        Some(code) => format!("ended with {} (0x{code:08X})", name_of(code)),
    }
}

/// Returns the name of an NTSTATUS code that ends processes.
fn name_of(code: u32) -> &'static str {
    match code {
        0x8000_0003 => "breakpoint",
        0xC000_0005 => "access violation",
        0xC000_0006 => "in-page error: a mapped file could not be read",
        0xC000_0008 => "invalid handle",
        0xC000_0017 => "out of memory",
        0xC000_001D => "illegal instruction",
        0xC000_0025 => "noncontinuable exception",
        0xC000_008E => "floating-point division by zero",
        0xC000_0094 => "integer division by zero",
        0xC000_0096 => "privileged instruction",
        0xC000_00FD => "stack overflow",
        0xC000_0135 => "DLL not found",
        0xC000_0139 => "entry point not found in a DLL",
        0xC000_013A => "Ctrl-C",
        0xC000_0142 => "DLL initialization failed",
        0xC000_0374 => "heap corruption",
        0xC000_0409 => "abort, or a stack buffer overrun",
        0xE06D_7363 => "uncaught C++ exception",
        KILLED => "a kill by its host",
        _ => "status",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_described_by_code_or_status() {
        assert_eq!(describe(Some(7)), "exited with code 7");
        assert_eq!(
            describe(Some(0xC000_0005)),
            "ended with access violation (0xC0000005)"
        );
        assert_eq!(
            describe(Some(0xC012_3456)),
            "ended with status (0xC0123456)"
        );
        assert_eq!(describe(None), "ended");
    }
}
