//! The names a library exports.

use std::{fs, io, path::Path};

use object::{NameOrOrdinal, Object as _};

use super::refusal::printable;

/// Returns the names that the library at `path` exports, sorted and printable.
///
/// # Errors
/// When it cannot be read, or is not an object file.
pub fn exports(path: &Path) -> io::Result<Vec<String>> {
    let bytes = fs::read(path)?;
    let other = |error: object::Error| io::Error::new(io::ErrorKind::InvalidData, error);
    let file = object::File::parse(&*bytes).map_err(other)?;
    let exports = file.exports().map_err(other)?;
    let name = |export: object::Export<'_>| match export.name() {
        NameOrOrdinal::Name(name) => printable(name),
        NameOrOrdinal::Ordinal(number) => format!("#{number}"),
    };
    let mut names = exports
        .map(|export| export.map(name).map_err(other))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}
