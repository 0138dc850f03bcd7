//! The exact messages to operators.

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, chown, symlink},
    path::Path,
};

use conductor_plugin_api::manifest::ApiVersion;
use rustix::fs::{CWD, FileType, Mode};

use super::{
    super::{Store, TrustPolicy, TrustedSigner, inspect, inspect_under, vet},
    Place, objects,
};

impl Place {
    /// Returns `vet`'s message about a file, without the parts that differ between runs and hosts.
    fn refusal(&self, path: &Path) -> String {
        let said = vet(path, &TrustPolicy::none(), &self.store)
            .unwrap_err()
            .to_string();
        assert_eq!(inspect(path).refusal().unwrap().to_string(), said);
        self.normalised(&said)
    }

    fn normalised(&self, said: &str) -> String {
        let dir = self.dir.path().to_str().unwrap();
        let current = format!("(it has {})", ApiVersion::CURRENT);
        said.replace(dir, "DIR")
            .replace(std::env::consts::ARCH, "ARCH")
            .replace(&current, "(it has CURRENT)")
    }

    fn refusal_of(&self, bytes: &[u8]) -> String {
        self.refusal(&self.file(bytes))
    }
}

/// The linker decides which segment is cut off, and at which length.
fn without_numbers(said: &str) -> String {
    said.replace(|c: char| c.is_ascii_digit(), "")
}

fn with_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn runs_as_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn of_what_is_no_file() {
    let place = Place::new();
    let at = |name: &str| place.dir.path().join(name);
    insta::assert_snapshot!(place.refusal(&at("gone.so")), @"DIR/gone.so: refused by rule regular-file: there is no such file; check its name and folder");
    symlink("../gone\u{1b}[2J.so", at("dangling.so")).unwrap();
    insta::assert_snapshot!(place.refusal(&at("dangling.so")), @r#"DIR/dangling.so: refused by rule regular-file: it is a link to ../gone\u{1b}[2J.so, which leads nowhere (No such file or directory (os error 2)); let the link point to a library, or remove it"#);
    symlink("loop.so", at("loop.so")).unwrap();
    insta::assert_snapshot!(place.refusal(&at("loop.so")), @"DIR/loop.so: refused by rule regular-file: it is a link to loop.so, which leads nowhere (Too many levels of symbolic links (os error 40)); let the link point to a library, or remove it");
    fs::create_dir(at("folder.so")).unwrap();
    insta::assert_snapshot!(place.refusal(&at("folder.so")), @"DIR/folder.so: refused by rule regular-file: it is a folder, not a file; put the library itself there, or take this out of the plugin folder");
    rustix::fs::mknodat(CWD, at("pipe.so"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    insta::assert_snapshot!(place.refusal(&at("pipe.so")), @"DIR/pipe.so: refused by rule regular-file: it is a named pipe (FIFO), not a file; put the library itself there, or take this out of the plugin folder");
    let _socket = std::os::unix::net::UnixListener::bind(at("socket.so")).unwrap();
    insta::assert_snapshot!(place.refusal(&at("socket.so")), @"DIR/socket.so: refused by rule regular-file: it is a socket, not a file; put the library itself there, or take this out of the plugin folder");
    insta::assert_snapshot!(place.refusal(Path::new("/dev/null")), @"/dev/null: refused by rule regular-file: it is a device, not a file; put the library itself there, or take this out of the plugin folder");
}

#[test]
fn of_files_that_others_can_write() {
    let place = Place::new();
    let file = place.file(&objects::small_library());
    with_mode(&file, 0o666);
    insta::assert_snapshot!(place.refusal(&file), @"DIR/x.so: refused by rule permissions: everybody can write to it (mode 0666); if you trust it as it is now: chmod o-w DIR/x.so");
    with_mode(&file, 0o664);
    vet(&file, &TrustPolicy::none(), &place.store).unwrap();
    if runs_as_root() {
        chown(&file, None, Some(12_345)).unwrap();
        insta::assert_snapshot!(place.refusal(&file), @"DIR/x.so: refused by rule permissions: its group, gid 12345, can write to it (mode 0664); if you trust it as it is now: chmod g-w DIR/x.so");
        with_mode(&file, 0o644);
        vet(&file, &TrustPolicy::none(), &place.store).unwrap();
    }
}

#[test]
fn of_files_that_belong_to_others() {
    if !runs_as_root() {
        return;
    }
    let place = Place::new();
    let file = place.file(&objects::small_library());
    chown(&file, Some(12_345), None).unwrap();
    insta::assert_snapshot!(place.refusal(&file), @"DIR/x.so: refused by rule owner: it belongs to uid 12345, the host runs as uid 0; if you trust it: chown root DIR/x.so");
}

#[test]
fn of_files_that_others_can_replace() {
    let place = Place::new();
    let folder = place.dir.path().join("open it");
    fs::create_dir(&folder).unwrap();
    with_mode(&folder, 0o777);
    let file = folder.join("x.so");
    fs::copy(place.file(&objects::small_library()), &file).unwrap();
    insta::assert_snapshot!(place.refusal(&file), @"DIR/open it/x.so: refused by rule folder: another user can replace it through the folder DIR/open it: everybody can write to it (mode 0777); move it elsewhere, or chmod o-w 'DIR/open it'");
    let link = place.dir.path().join("link.so");
    symlink("open it/x.so", &link).unwrap();
    insta::assert_snapshot!(place.refusal(&link), @"DIR/link.so: refused by rule folder: another user can replace it through the folder DIR/open it: everybody can write to it (mode 0777); move it elsewhere, or chmod o-w 'DIR/open it'");
    with_mode(&folder, 0o1777);
    vet(&file, &TrustPolicy::none(), &place.store).unwrap();
    with_mode(&folder, 0o775);
    vet(&file, &TrustPolicy::none(), &place.store).unwrap();
    // A link in such a folder to a good file outside could be changed as well.
    with_mode(&folder, 0o777);
    symlink("../x.so", folder.join("y.so")).unwrap();
    insta::assert_snapshot!(place.refusal(&folder.join("y.so")), @"DIR/open it/y.so: refused by rule folder: another user can replace it through the folder DIR/open it: everybody can write to it (mode 0777); move it elsewhere, or chmod o-w 'DIR/open it'");
    if !runs_as_root() {
        return;
    }
    with_mode(&folder, 0o775);
    chown(&folder, None, Some(12_345)).unwrap();
    insta::assert_snapshot!(place.refusal(&file), @"DIR/open it/x.so: refused by rule folder: another user can replace it through the folder DIR/open it: its group, gid 12345, can write to it (mode 0775); move it elsewhere, or chmod g-w 'DIR/open it'");
    with_mode(&folder, 0o755);
    chown(&folder, Some(12_345), None).unwrap();
    insta::assert_snapshot!(place.refusal(&file), @"DIR/open it/x.so: refused by rule folder: another user can replace it through the folder DIR/open it: it belongs to uid 12345, the host runs as uid 0; move it elsewhere, or chown root 'DIR/open it'");
    std::os::unix::fs::lchown(&link, Some(12_345), None).unwrap();
    insta::assert_snapshot!(place.refusal(&link), @"DIR/link.so: refused by rule folder: another user can redirect the link DIR/link.so: it belongs to uid 12345, the host runs as uid 0; if you trust it: chown -h root DIR/link.so");
}

#[test]
fn of_files_that_are_too_big() {
    let place = Place::new();
    let file = place.file(b"");
    fs::File::options()
        .write(true)
        .open(&file)
        .unwrap()
        .set_len((256 << 20) + 1)
        .unwrap();
    insta::assert_snapshot!(place.refusal(&file), @"DIR/x.so: refused by rule size: it has 268435457 bytes, more than 268435456 (256 MiB) are not read; strip it (strip --strip-unneeded), or build it without debug information");
}

#[test]
fn of_files_that_are_no_library() {
    let place = Place::new();
    let whole = objects::library();
    insta::assert_snapshot!(place.refusal_of(b""), @"DIR/x.so: refused by rule format: it is empty; copy the library again");
    insta::assert_snapshot!(place.refusal_of(b"\x1b[31mhello, this is no library\n"), @r#"DIR/x.so: refused by rule format: it is no ELF, PE or Mach-O file (it begins with "\u{1b}[31mhel"); put there the plugin's build for linux on ARCH"#);
    insta::assert_snapshot!(place.refusal_of(b"GROUP ( libc.so.6 )"), @r#"DIR/x.so: refused by rule format: it is no ELF, PE or Mach-O file (it begins with "GROUP ( "); put there the plugin's build for linux on ARCH"#);
    insta::assert_snapshot!(place.refusal_of(&whole[..30]), @"DIR/x.so: refused by rule format: its headers are damaged (Invalid ELF header size or alignment); copy the library again, whole");
    insta::assert_snapshot!(place.refusal_of(&whole[..200]), @"DIR/x.so: refused by rule segments: it was cut off or damaged: its segment table does not lie inside its 200 bytes; copy it again under another name, and rename it when it is whole");
    insta::assert_snapshot!(without_numbers(&place.refusal_of(&whole[..100_000])), @"DIR/x.so: refused by rule segments: it was cut off or damaged: segment  does not lie inside its  bytes; copy it again under another name, and rename it when it is whole");
    insta::assert_snapshot!(without_numbers(&place.refusal_of(&whole[..whole.len() - 100])), @"DIR/x.so: refused by rule segments: it was cut off or damaged: its section table does not lie inside its  bytes; copy it again under another name, and rename it when it is whole");
    insta::assert_snapshot!(place.refusal_of(&objects::dll(0x8664)), @"DIR/x.so: refused by rule format: it is a PE file (Windows), this host loads an ELF file (Linux and others); put there the plugin's build for linux on ARCH");
    insta::assert_snapshot!(place.refusal_of(&objects::dylib(0x0100_0007, 6)), @"DIR/x.so: refused by rule format: it is a Mach-O file (macOS), this host loads an ELF file (Linux and others); put there the plugin's build for linux on ARCH");
    insta::assert_snapshot!(place.refusal_of(b"\xca\xfe\xba\xbe\0\0\0\x02\0\0\0\0\0\0\0\0"), @"DIR/x.so: refused by rule format: it is a universal Mach-O file, which holds libraries for several processors; take out the one for this machine: lipo -thin");
    let main = format!("{} int main(void) {{ return 0; }}", objects::NOTE);
    insta::assert_snapshot!(place.refusal_of(&objects::compile(&["-pie", "-fPIE"], &main)), @r#"DIR/x.so: refused by rule kind: it is an executable, not a shared library; build it with crate-type = ["cdylib"]"#);
    insta::assert_snapshot!(place.refusal_of(&objects::compile(&["-c"], "int x;")), @r#"DIR/x.so: refused by rule kind: it is an object file, not a shared library; build it with crate-type = ["cdylib"]"#);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn of_libraries_for_another_machine() {
    let place = Place::new();
    insta::assert_snapshot!(place.refusal_of(&objects::library_for_another_processor()), @"DIR/x.so: refused by rule architecture: it is built for aarch64 (64 bits, little-endian), this host is ARCH (64 bits, little-endian) with linux; put there the plugin's build for linux on ARCH");
    let mut freebsd = objects::library();
    freebsd[7] = 9;
    insta::assert_snapshot!(place.refusal_of(&freebsd), @"DIR/x.so: refused by rule architecture: it is built for ARCH (64 bits, little-endian) with freebsd, this host is ARCH (64 bits, little-endian) with linux; put there the plugin's build for linux on ARCH");
}

#[test]
fn of_libraries_whose_manifest_is_wrong() {
    use objects::{API_MAJOR, API_MINOR, DOOR, FLAGS, ID, NAME, NEEDS, VERSION, library_with};
    let place = Place::new();
    let none = objects::compile(&["-shared", "-fPIC"], "int x;");
    insta::assert_snapshot!(place.refusal_of(&none), @"DIR/x.so: refused by rule manifest: it has no plugin manifest; export a plugin from it (conductor_plugin_api::export_plugin!), or take it out of the plugin folder");
    let no_note =
        r#"__attribute__((section(".note.conductor"), used)) static const int note[] = {1, 2, 3};"#;
    let no_note = objects::compile(&["-shared", "-fPIC"], no_note);
    insta::assert_snapshot!(place.refusal_of(&no_note), @"DIR/x.so: refused by rule manifest: its section .note.conductor holds no note of Conductor; rebuild it with conductor-plugin-api 1.x");
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(0, b'X')])), @"DIR/x.so: refused by rule manifest: its manifest does not begin with the magic bytes; rebuild it with conductor-plugin-api 1.x");
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(ID, 0x1b)])), @r#"DIR/x.so: refused by rule manifest: its manifest has the id "\x1bpecimen"; expected 1–63 lower-case letters, digits and "-", the first a letter; rebuild it with conductor-plugin-api 1.x"#);
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(VERSION + 1, b'x')])), @r#"DIR/x.so: refused by rule manifest: its manifest has the version "1x2.3", which is no semantic version (unexpected character 'x' after major version number); give the plugin a version like 1.0.0 and build it again"#);
    // U+202E reverses the reading direction.
    let turned = [(NAME, 0xe2), (NAME + 1, 0x80), (NAME + 2, 0xae)];
    insta::assert_snapshot!(place.refusal_of(&library_with(&turned)), @r#"DIR/x.so: refused by rule manifest: its manifest has the name "\u{202e}pecimen", which has invisible characters; rebuild it with conductor-plugin-api 1.x"#);
    let need = |text: &str| -> Vec<_> { (NEEDS..).zip(text.bytes()).collect() };
    insta::assert_snapshot!(place.refusal_of(&library_with(&need("network\nread ../x"))), @r#"DIR/x.so: refused by rule manifest: its manifest has the need "read ../x"; a need is `network`, `unix-sockets`, `read PATH` or `run PATH`, with an absolute path without `.`, `..` and `//`; rebuild it with conductor-plugin-api 1.x"#);
    insta::assert_snapshot!(place.refusal_of(&library_with(&need("run /a\u{202e}b"))), @r#"DIR/x.so: refused by rule manifest: its manifest has the need "run /a\u{202e}b", which has invisible characters; rebuild it with conductor-plugin-api 1.x"#);
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(API_MAJOR, 2), (API_MINOR, 0)])), @"DIR/x.so: refused by rule api-version: it was built for plugin API 2.0.0, this host speaks 1.x (it has CURRENT); rebuild it with conductor-plugin-api 1.x, or run it with a host that speaks 2.x");
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(API_MAJOR, 0), (API_MINOR, 0)])), @"DIR/x.so: refused by rule api-version: it was built for plugin API 0.0.0, this host speaks 1.x (it has CURRENT); rebuild it with conductor-plugin-api 1.x");
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(FLAGS, 0)])), @r#"DIR/x.so: refused by rule panic-strategy: it was built with panic = "abort", so its first panic would end the process that holds it; rebuild it with panic = "unwind" in its Cargo profile"#);
    insta::assert_snapshot!(place.refusal_of(&library_with(&[(DOOR, 2), (FLAGS, 0)])), @"DIR/x.so: refused by rule door: it is a C plugin and exports no `conductor_plugin`; end its source with CONDUCTOR_PLUGIN of conductor_plugin.h, and hide nothing of that when it is linked");
}

#[test]
fn of_a_store_that_others_can_write() {
    let place = Place::new();
    let base = place.dir.path().join("base");
    fs::create_dir(&base).unwrap();
    with_mode(&base, 0o777);
    let said = || place.normalised(&Store::open(&base).unwrap_err().to_string());
    insta::assert_snapshot!(said(), @"DIR/base: refused by rule store: another user can replace it through the folder DIR/base: everybody can write to it (mode 0777); move it elsewhere, or chmod o-w DIR/base");
    with_mode(&base, 0o755);
    fs::create_dir_all(base.join("libraries")).unwrap();
    with_mode(&base.join("libraries"), 0o777);
    insta::assert_snapshot!(said(), @"DIR/base: refused by rule store: another user can replace it through the folder DIR/base/libraries: everybody can write to it (mode 0777); move it elsewhere, or chmod o-w DIR/base/libraries");
    fs::remove_dir_all(&base).unwrap();
    fs::write(&base, "").unwrap();
    insta::assert_snapshot!(said(), @"DIR/base: refused by rule store: the host's user cannot make its private folder in DIR/base: Not a directory (os error 20); let it write there, or set state_dir to a folder of its own");
}

#[test]
fn of_an_inspection() {
    let place = Place::new();
    let file = place.file(&objects::library_with(&[
        (objects::API_MAJOR, 2),
        (objects::API_MINOR, 0),
        (objects::FLAGS, 0),
    ]));
    let mut inspection = inspect(&file);
    // The compiler's and the libc's own.
    inspection.size = Some(1);
    inspection.sha256 = Some(super::LibraryHash([0xab; 32]));
    assert!(
        inspection
            .libraries
            .drain(..)
            .any(|name| name.starts_with("libc."))
    );
    inspection.libraries.push("libc.so".into());
    inspection.machine.as_mut().unwrap().os = None;
    insta::assert_snapshot!(place.normalised(&inspection.to_string()), @r#"
    file           DIR/x.so
    size           1 bytes
    sha256         abababababababababababababababababababababababababababababababab
    format         an ELF file (Linux and others)
    built for      ARCH (64 bits, little-endian)
    kind           a shared library
    plugin         specimen
    version        1.2.3
    name           A specimen
    API            2.0.0
    door           rust
    panics         abort
    needs          nothing but what every plugin may do
    description    not stated
    author         not stated
    licence        not stated
    libraries      libc.so

    regular-file   passed
    owner          passed
    permissions    passed
    folder         passed
    size           passed
    format         passed
    architecture   passed
    segments       passed
    kind           passed
    dependencies   passed
    manifest       passed
    api-version    REFUSED: it was built for plugin API 2.0.0, this host speaks 1.x (it has CURRENT); rebuild it with conductor-plugin-api 1.x, or run it with a host that speaks 2.x
    panic-strategy REFUSED: it was built with panic = "abort", so its first panic would end the process that holds it; rebuild it with panic = "unwind" in its Cargo profile
    door           passed
    "#);
    let json = serde_json::to_string_pretty(&inspection).unwrap();
    insta::assert_snapshot!(place.normalised(&json), @r#"
    {
      "file": "DIR/x.so",
      "size": 1,
      "sha256": "abababababababababababababababababababababababababababababababab",
      "format": "elf",
      "machine": {
        "processor": "ARCH",
        "bits": 64,
        "little_endian": true,
        "os": null
      },
      "kind": "shared-library",
      "manifest": {
        "id": "specimen",
        "version": "1.2.3",
        "name": "A specimen",
        "api": "2.0.0",
        "door": "rust",
        "panics": "abort",
        "needs": [],
        "description": "",
        "author": "",
        "licence": ""
      },
      "libraries": [
        "libc.so"
      ],
      "verdicts": [
        {
          "rule": "regular-file",
          "outcome": "passed"
        },
        {
          "rule": "owner",
          "outcome": "passed"
        },
        {
          "rule": "permissions",
          "outcome": "passed"
        },
        {
          "rule": "folder",
          "outcome": "passed"
        },
        {
          "rule": "size",
          "outcome": "passed"
        },
        {
          "rule": "format",
          "outcome": "passed"
        },
        {
          "rule": "architecture",
          "outcome": "passed"
        },
        {
          "rule": "segments",
          "outcome": "passed"
        },
        {
          "rule": "kind",
          "outcome": "passed"
        },
        {
          "rule": "dependencies",
          "outcome": "passed"
        },
        {
          "rule": "manifest",
          "outcome": "passed"
        },
        {
          "rule": "api-version",
          "outcome": "refused",
          "found": "it was built for plugin API 2.0.0, this host speaks 1.x (it has CURRENT)",
          "cure": "rebuild it with conductor-plugin-api 1.x, or run it with a host that speaks 2.x"
        },
        {
          "rule": "panic-strategy",
          "outcome": "refused",
          "found": "it was built with panic = \"abort\", so its first panic would end the process that holds it",
          "cure": "rebuild it with panic = \"unwind\" in its Cargo profile"
        },
        {
          "rule": "door",
          "outcome": "passed"
        }
      ]
    }
    "#);
    insta::assert_snapshot!(place.normalised(&inspect(&place.dir.path().join("gone.so")).to_string()), @r#"
    file           DIR/gone.so
    size           unknown
    sha256         unknown
    format         unknown
    built for      unknown
    kind           unknown
    plugin         unknown
    version        unknown
    name           unknown
    API            unknown
    door           unknown
    panics         unknown
    needs          unknown
    description    unknown
    author         unknown
    licence        unknown
    libraries      unknown

    regular-file   REFUSED: there is no such file; check its name and folder
    owner          not checked
    permissions    not checked
    folder         not checked
    size           not checked
    format         not checked
    architecture   not checked
    segments       not checked
    kind           not checked
    dependencies   not checked
    manifest       not checked
    api-version    not checked
    panic-strategy not checked
    door           not checked
    "#);
}

#[test]
fn an_unsigned_library_is_never_said_to_have_passed_the_signature() {
    let place = Place::new();
    let file = place.file(&objects::library());
    let said = |policy: &TrustPolicy| {
        let text = inspect_under(&file, policy).to_string();
        let lines = text
            .lines()
            .filter(|line| line.starts_with("pin ") || line.starts_with("signature "));
        place.normalised(&lines.collect::<Vec<_>>().join("\n"))
    };
    insta::assert_snapshot!(said(&TrustPolicy::none()), @r"
    pin            not checked: no config names a plugins.lock (--config.file)
    signature      not signed; not checked: no keys are configured ([trust].minisign_keys)
    ");
    let lock = place.dir.path().join("plugins.lock");
    let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    let trusting = TrustPolicy {
        lock_file: Some(lock),
        signers: vec![TrustedSigner::parse(key).unwrap()],
        require_signature: false,
    };
    insta::assert_snapshot!(said(&trusting), @r"
    pin            not checked: DIR/plugins.lock does not exist
    signature      not signed; [trust].require_signature is false, so it is loaded
    ");
    fs::write(place.dir.path().join("x.so.minisig"), "x").unwrap();
    insta::assert_snapshot!(said(&TrustPolicy::none()), @r"
    pin            not checked: no config names a plugins.lock (--config.file)
    signature      DIR/x.so.minisig not checked: no keys are configured ([trust].minisign_keys)
    ");
    let json = serde_json::to_value(inspect_under(&file, &TrustPolicy::none())).unwrap();
    let verdicts = json["verdicts"].as_array().unwrap();
    let signature = verdicts
        .iter()
        .find(|verdict| verdict["rule"] == "signature")
        .unwrap();
    assert_eq!(signature["outcome"], "open");
}
