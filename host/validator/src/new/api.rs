//! The source of `conductor-plugin-api` for a new Rust plugin, as no registry has it yet.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The reason why `--api` does not name the crate.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("--api {}: {source}; {CURE}", .manifest.display())]
    Unreadable {
        manifest: PathBuf,
        source: io::Error,
    },
    #[error("--api {}: is not the manifest of {NAME}; {CURE}", .manifest.display())]
    OtherCrate { manifest: PathBuf },
}

/// Returns the line of Cargo.toml: the given path, the crate in this program's source tree, or its repository.
///
/// # Errors
/// If the given path does not contain the crate.
pub(super) fn dependency(named: Option<&Path>, features: &[&str]) -> Result<String, ApiError> {
    let place = match named {
        Some(path) => Some(crate_at(path)?),
        // It existed when this program was built, but may be gone, or on another machine.
        None => crate_at(Path::new(BESIDE_THE_SOURCE)).ok(),
    };
    let features = match features {
        [] => String::new(),
        features => format!(", features = {features:?}"),
    };
    Ok(match place {
        // Debug's escapes are those of a basic string in TOML.
        Some(path) => format!(
            "{NAME} = {{ path = {:?}{features} }}",
            path.display().to_string()
        ),
        None => format!(
            "# No registry has it yet; with a checkout at hand: path = \"…/conductor/plugin-api\"\n{NAME} = {{ git = {:?}{features} }}",
            env!("CARGO_PKG_REPOSITORY")
        ),
    })
}

/// Returns the absolute path of the crate in `folder`.
fn crate_at(folder: &Path) -> Result<PathBuf, ApiError> {
    let manifest = folder.join("Cargo.toml");
    let read =
        fs::read_to_string(&manifest).and_then(|text| Ok((text, dunce::canonicalize(folder)?)));
    let (text, folder) = match read {
        Ok(read) => read,
        Err(source) => return Err(ApiError::Unreadable { manifest, source }),
    };
    let name = toml::from_str::<toml::Table>(&text)
        .ok()
        .and_then(|manifest| Some(manifest.get("package")?.get("name")?.as_str()? == NAME));
    match name {
        Some(true) => Ok(folder),
        _ => Err(ApiError::OtherCrate { manifest }),
    }
}

const NAME: &str = "conductor-plugin-api";
const BESIDE_THE_SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../plugin-api");
const CURE: &str = "name the folder plugin-api of a checkout of conductor";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_the_crate_is_refused() {
        for path in ["/nowhere", concat!(env!("CARGO_MANIFEST_DIR"))] {
            let error = dependency(Some(Path::new(path)), &[])
                .unwrap_err()
                .to_string();
            assert!(error.contains(path) && error.contains(CURE), "{error}");
        }
    }

    #[test]
    fn the_named_crate_is_depended_on_with_its_features() {
        let line = dependency(Some(Path::new(BESIDE_THE_SOURCE)), &["tokio"]).unwrap();
        assert!(
            line.ends_with("/plugin-api\", features = [\"tokio\"] }"),
            "{line}"
        );
        let table: toml::Table = toml::from_str(&line).unwrap();
        assert!(table.contains_key(NAME));
    }
}
