//! Computes the id of the build, by which a host and its workers recognise each other.
//!
//! It is a hash of all sources that decide how the two talk and what a worker does, so it is the same for every build of
//! one state of them, whatever the folder, profile or features.

use std::{
    env, fs,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    let own = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let mut hash = DefaultHasher::new();
    for folder in SOURCES {
        let folder = own.join(folder);
        println!("cargo::rerun-if-changed={}", folder.display());
        add(&folder, &mut hash)?;
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=CONDUCTOR_BUILD={:016x}", hash.finish());
    Ok(())
}

/// Adds the names and contents of all files in a folder, in the order of their names.
fn add(folder: &Path, hash: &mut DefaultHasher) -> io::Result<()> {
    let entries = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
    entries.sort();
    for entry in entries {
        entry.file_name().hash(hash);
        match entry.is_dir() {
            true => add(&entry, hash)?,
            false => fs::read(&entry)?.hash(hash),
        }
    }
    Ok(())
}

/// The code of a worker, relative to this crate.
const SOURCES: [&str; 6] = [
    "src",
    "../core/src",
    "../library/src",
    "../sandbox/src",
    "../types/src",
    "../../plugin-api/src",
];
