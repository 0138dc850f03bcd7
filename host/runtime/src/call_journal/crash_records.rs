//! Records left by dead hosts: the plugins they were calling.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::{Path, PathBuf},
};

use conductor_library::{LibraryHash, file_reader};

use super::{
    CallPhase,
    layout::{InterruptedCall, JournalContents, MachineFacts},
    machine,
};

/// The records of dead hosts.
#[derive(Debug)]
pub struct CrashRecords {
    /// The plugins that were in a call, each once per host.
    pub suspects: Vec<CrashSuspect>,
    files: Vec<PathBuf>,
}

/// A plugin that a host was calling when it died.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CrashSuspect {
    /// The plugin's id.
    pub plugin: String,
    /// The hash of the loaded library.
    pub sha256: LibraryHash,
    /// The platform of the call.
    pub platform: Option<String>,
    /// The phase of the call.
    pub phase: CallPhase,
    /// Number of plugins in a call at that moment, including this one.
    pub of: usize,
    /// `true` if the kernel has killed processes because of low memory since; the host may have been one.
    pub out_of_memory: bool,
}

impl CrashRecords {
    /// Reads the records of dead runs that the [store](conductor_library::Store) kept in `folder`.
    ///
    /// Records from before the last boot count as those of hosts that lost power.
    pub fn read(folder: &Path) -> Self {
        let mut files: Vec<_> = fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        let now = machine::now();
        let read = |file: &PathBuf| match file_reader::read(file, LARGEST) {
            Ok(content) => suspects(&content.bytes, now),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "cannot read the record of a host that died");
                Vec::new()
            }
        };
        Self {
            suspects: files.iter().flat_map(read).collect(),
            files,
        }
    }

    /// Removes the records, once the suspects are stored elsewhere.
    pub fn discard(self) {
        for file in self.files {
            if let Err(error) = fs::remove_file(&file) {
                tracing::warn!(file = %file.display(), %error, "cannot remove the record of a host that died; its suspects are named again at the next start");
            }
        }
    }
}

/// Returns the suspects in a record from this machine; for the fuzz targets.
#[doc(hidden)]
pub fn suspects_in(bytes: &[u8]) -> Vec<CrashSuspect> {
    JournalContents::read(bytes).map_or_else(Vec::new, |said| suspects(bytes, said.machine))
}

/// Maximum size of a record, in bytes.
const LARGEST: u64 = 64 << 20;

/// Returns the suspects in one record.
fn suspects(bytes: &[u8], now: MachineFacts) -> Vec<CrashSuspect> {
    let Some(said) = JournalContents::read(bytes) else {
        return Vec::new();
    };
    // If boots cannot be distinguished, a loss of power cannot be ruled out.
    if said.leaving || said.machine.boot == 0 || said.machine.boot != now.boot {
        return Vec::new();
    }
    let plugins: BTreeSet<&str> = said.calls.iter().map(|call| &*call.plugin).collect();
    let first = |plugin: &&str| {
        said.calls
            .iter()
            .find(|call| call.plugin == *plugin)
            .cloned()
    };
    let suspect = |call: InterruptedCall| CrashSuspect {
        plugin: call.plugin,
        sha256: call.sha256,
        platform: call.platform,
        phase: call.phase,
        of: plugins.len(),
        out_of_memory: now.oom_kills > said.machine.oom_kills,
    };
    plugins.iter().filter_map(first).map(suspect).collect()
}

impl fmt::Display for CrashSuspect {
    /// One line: the facts, and how little they prove.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let doing = match self.phase {
            CallPhase::Load => "being loaded",
            CallPhase::Create => "creating a probe",
            CallPhase::Check => "inside a check",
            CallPhase::Drop => "dropping a probe",
        };
        write!(f, "suspect: plugin {} was {doing}", self.plugin)?;
        if let Some(platform) = &self.platform {
            write!(f, " of platform {platform}")?;
        }
        f.write_str(" when the last host died")?;
        match self.of {
            ..=1 => {}
            2 => f.write_str(", as was another")?,
            more => write!(f, ", as were {} others", more - 1)?,
        }
        f.write_str("; ")?;
        if self.out_of_memory {
            f.write_str(
                "the machine ran out of memory meanwhile, which may have been the reason; ",
            )?;
        }
        f.write_str(
            "a host that is killed from outside leaves the same traces, and memory spoilt earlier can blame the wrong plugin",
        )
    }
}

#[cfg(test)]
mod wording {
    use super::*;

    #[test]
    fn a_suspect_is_named_with_what_speaks_for_it() {
        let mut suspect = CrashSuspect {
            plugin: "http".to_owned(),
            sha256: LibraryHash([0; 32]),
            platform: Some("chat".to_owned()),
            phase: CallPhase::Check,
            of: 1,
            out_of_memory: false,
        };
        insta::assert_snapshot!(suspect, @"suspect: plugin http was inside a check of platform chat when the last host died; a host that is killed from outside leaves the same traces, and memory spoilt earlier can blame the wrong plugin");
        suspect = CrashSuspect {
            platform: None,
            phase: CallPhase::Load,
            of: 3,
            out_of_memory: true,
            ..suspect
        };
        insta::assert_snapshot!(suspect, @"suspect: plugin http was being loaded when the last host died, as were 2 others; the machine ran out of memory meanwhile, which may have been the reason; a host that is killed from outside leaves the same traces, and memory spoilt earlier can blame the wrong plugin");
    }
}
