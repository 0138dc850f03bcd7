//! The commands of this OS that cures name.

use std::path::Path;

use super::refusal::quoted;

/// Lets the host's user read a file.
pub(super) fn let_read(file: &Path) -> String {
    let name = quoted(file);
    if cfg!(windows) {
        format!("let it, as USER: icacls {name} /grant USER:R")
    } else {
        format!("let it: chmod a+r {name} (and a+x its folders)")
    }
}

/// Lets the host's user list a folder.
pub(super) fn let_list(folder: &Path) -> String {
    let name = quoted(folder);
    if cfg!(windows) {
        format!("let it, as USER: icacls {name} /grant USER:RX")
    } else {
        format!("let it: chmod o+rx {name}, or make the host's user its owner")
    }
}

/// Creates a folder and those above it.
pub(super) fn make_folder(folder: &Path) -> String {
    let name = quoted(folder);
    if cfg!(windows) {
        format!("make it (mkdir {name})")
    } else {
        format!("make it (mkdir -p {name})")
    }
}
