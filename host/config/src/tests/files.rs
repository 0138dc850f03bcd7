//! Files that cannot be read, each with one clear message.

use std::{fs, io};

use insta::assert_snapshot;

use super::*;

/// Returns the message about a file `conductor.toml` with these bytes, without its folder.
fn message(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conductor.toml");
    fs::write(&path, bytes).unwrap();
    refused(&path, folder.path())
}

fn refused(path: &Path, folder: &Path) -> String {
    let error = ConductorConfig::read(path).unwrap_err();
    error
        .to_plain()
        .replace(&format!("{}/", folder.display()), "")
}

#[test]
fn a_file_is_read_from_disk_with_its_own_folder_as_base() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conductor.toml");
    let text = default_text().replace("# plugin_dirs", "plugin_dirs");
    fs::write(&path, &text).unwrap();
    let config = ConductorConfig::read(&path).unwrap();
    assert_eq!(config.host.plugin_dirs, [folder.path().join("plugins")]);
    assert_eq!(config.source.text(), text);
}

#[test]
fn a_file_that_names_no_folders_is_told_of_plugins_beside_it_that_are_not_searched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("conductor.toml");
    fs::write(&path, default_text()).unwrap();
    assert_eq!(ConductorConfig::read(&path).unwrap().warnings, [""; 0]);
    fs::create_dir(folder.path().join("plugins")).unwrap();
    let config = ConductorConfig::read(&path).unwrap();
    assert!(
        !config
            .host
            .plugin_dirs
            .contains(&folder.path().join("plugins"))
    );
    assert!(
        config.warnings[0].contains("plugin_dirs = [\"plugins\"]"),
        "{:?}",
        config.warnings
    );
}

#[test]
fn a_missing_file() {
    let folder = tempfile::tempdir().unwrap();
    assert_snapshot!(refused(&folder.path().join("conductor.toml"), folder.path()), @r"
    conductor.toml: there is no such file
      help: `conductor config default > conductor.toml` writes one to start from
    ");
}

#[test]
fn a_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("conductor.toml")).unwrap();
    assert_snapshot!(refused(&folder.path().join("conductor.toml"), folder.path()), @r"
    conductor.toml: this is a folder, not a file
      help: name the configuration file inside it
    ");
}

#[cfg(unix)]
#[test]
fn a_device_is_refused_before_it_is_opened() {
    assert_snapshot!(refused(Path::new("/dev/zero"), Path::new("/")), @"/dev/zero: cannot be read: it is a device, not a file");
}

#[test]
fn a_file_without_permission() {
    // Root can read everything, so the system's error is simulated here.
    let denied = io::Error::from(io::ErrorKind::PermissionDenied);
    let error = source::unreadable("conductor.toml", denied);
    assert_snapshot!(error.to_plain(), @r"
    conductor.toml: the user the host runs as may not read it
      help: see to the owner and mode of the file and of the folders above it
    ");
    assert!(
        std::error::Error::source(&error).is_some(),
        "the cause is kept"
    );
}

#[test]
fn ten_megabytes() {
    let mut bytes = default_text().as_bytes().to_vec();
    bytes.resize(10_000_000, b'\n');
    assert_snapshot!(message(&bytes), @r"
    conductor.toml: the file is larger than 8000000 bytes
      help: is this the configuration? a hundred thousand platforms fit into that
    ");
    let text = String::from_utf8(bytes).unwrap();
    assert_snapshot!(parse(&text).unwrap_err().to_plain(), @r"
    conductor.toml: the file is larger than 8000000 bytes
      help: is this the configuration? a hundred thousand platforms fit into that
    ");
}

#[test]
fn the_largest_file_allowed_is_read_and_one_byte_more_is_not() {
    let mut text = default_text().to_owned();
    text.push_str(&"\n".repeat(MAX_BYTES - text.len()));
    assert!(parse(&text).is_ok());
    text.push('\n');
    assert!(parse(&text).is_err());
}

#[test]
fn invalid_utf8() {
    assert_snapshot!(message(b"[host]\n# Gr\xc3\xbc\xdfe\ninterval = \"5s\"\n"), @r"
    conductor.toml:2:6: byte 0xdf, at offset 13, is not UTF-8
      help: save the file as UTF-8
    ");
}

#[test]
fn utf16_as_powershell_writes_it() {
    let units = "\u{feff}[host]\r\n".encode_utf16();
    let bytes: Vec<u8> = units.flat_map(u16::to_le_bytes).collect();
    assert_snapshot!(message(&bytes), @r"
    conductor.toml: the file is UTF-16, not UTF-8
      help: save it as UTF-8; Windows PowerShell writes that with `Set-Content -Encoding utf8`, and UTF-16 with `>`
    ");
}

#[test]
fn utf8_that_ends_in_the_middle() {
    assert_snapshot!(message(b"[host]\n# \xe2\x82"), @r"
    conductor.toml:2:3: byte 0xe2, at offset 9, is not UTF-8
      help: save the file as UTF-8
    ");
}

#[test]
fn a_key_is_read_from_the_file_that_is_named_or_from_the_text() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(
        folder.path().join("signer.pub"),
        format!("untrusted comment: minisign public key E7620F1842B4E81F\n{KEY}\n"),
    )
    .unwrap();
    let read = |key: &str| {
        let text = format!("[trust]\nminisign_keys = [{key:?}]\nrequire_signature = true");
        ConductorConfig::parse(with_platform(&text), "conductor.toml", folder.path())
    };
    for key in [KEY, "signer.pub"] {
        let config = read(key).unwrap();
        assert_eq!(
            config.trust.minisign_keys[0].id().to_string(),
            "E7620F1842B4E81F"
        );
        assert!(config.policy().require_signature);
        assert_eq!(config.policy().signers, config.trust.minisign_keys);
    }
    fs::write(folder.path().join("signer.pub"), "RWabc").unwrap();
    assert_snapshot!(read("signer.pub").unwrap_err().to_plain(), @r#"
    conductor.toml:2:17: trust.minisign_keys[0]: the file "signer.pub" contains no minisign key
      help: write the line of the .pub file that begins with RW, or the name of that file; `minisign -G` creates a key pair
    "#);
}

const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
