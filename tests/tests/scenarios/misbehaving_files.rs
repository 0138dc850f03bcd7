//! Files that are no plugins: refused with name, rule and cure, and no other plugin is affected.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{Host, Setup, is_windows, library, library_name, library_suffix};

/// Starts a host with one good platform and the files that `place` puts into the plugin folder.
fn host_beside(place: impl FnOnce(&Path, &Path)) -> Host {
    let setup = Setup::new();
    let fault = setup
        .plugin_dir()
        .join(library("conductor_plugin_fault").file_name().unwrap());
    place(&setup.plugin_dir(), &fault);
    setup.platform("bystander", "fault", "{}").start()
}

/// Returns the refusal of a file, as the API shows it; the bystander is checked all the while.
#[track_caller]
fn refusal(host: &Host, file: &str) -> String {
    host.wait("the bystander's checks", |m| {
        m.checks("bystander", "healthy") >= 5.0
    });
    let status = host.status();
    let refused = status["refused"].as_array().unwrap();
    let one = refused
        .iter()
        .find(|r| r["file"].as_str().unwrap().ends_with(file));
    let reason = one.unwrap_or_else(|| panic!("{file} is not among {refused:#?}"))["reason"]
        .as_str()
        .unwrap();
    assert!(
        reason.contains(file),
        "the message names the file: {reason}"
    );
    // A second later, as the file may still be written.
    host.wait_for_log(file);
    reason.to_owned()
}

#[track_caller]
fn is_refused(place: impl FnOnce(&Path, &Path), rule: &str, words: &[&str]) {
    let host = host_beside(place);
    let reason = refusal(&host, &x());
    assert!(reason.contains(&format!("rule {rule}")), "{reason}");
    for word in words {
        assert!(reason.contains(word), "{word:?} is missing: {reason}");
    }
}

#[test]
fn an_empty_file() {
    is_refused(
        |dir, _| fs::write(dir.join(x()), "").unwrap(),
        "format",
        &["empty"],
    );
}

#[test]
fn a_text_file() {
    is_refused(
        |dir, _| fs::write(dir.join(x()), "not a library\n").unwrap(),
        "format",
        &[],
    );
}

#[test]
fn a_library_truncated_at_200_and_at_100_000_bytes() {
    for bytes in [200, 100_000] {
        is_refused(
            |dir, good| fs::write(dir.join(x()), &fs::read(good).unwrap()[..bytes]).unwrap(),
            // The first bytes of a DLL are a program of DOS, its headers follow.
            match is_windows() && bytes == 200 {
                true => "format: it begins like a PE file",
                false => "segments",
            },
            &[],
        );
    }
}

#[test]
fn a_library_for_another_architecture() {
    is_refused(
        |dir, good| {
            let mut bytes = fs::read(good).unwrap();
            if is_windows() {
                // `Machine` behind "PE\0\0": 0xAA64 is AArch64.
                let pe = u32::from_le_bytes(bytes[0x3c..0x40].try_into().unwrap());
                let machine = usize::try_from(pe).unwrap() + 4;
                bytes[machine..machine + 2].copy_from_slice(&0xAA64_u16.to_le_bytes());
            } else {
                // e_machine: 183 is AArch64, 62 is x86-64.
                bytes[18] = if bytes[18] == 183 { 62 } else { 183 };
            }
            fs::write(dir.join(x()), bytes).unwrap();
        },
        "architecture",
        &[],
    );
}

#[test]
fn a_fifo() {
    is_refused(
        |dir, _| {
            assert!(
                Command::new("mkfifo")
                    .arg(dir.join(x()))
                    .status()
                    .unwrap()
                    .success()
            )
        },
        "regular-file",
        &["FIFO"],
    );
}

#[test]
fn a_dangling_link() {
    is_refused(
        |dir, _| std::os::unix::fs::symlink("/nowhere/at-all", dir.join(x())).unwrap(),
        "regular-file",
        &[],
    );
}

#[test]
fn a_file_everybody_can_write_to() {
    is_refused(
        |dir, good| {
            use std::os::unix::fs::PermissionsExt as _;
            fs::copy(good, dir.join(x())).unwrap();
            fs::set_permissions(dir.join(x()), fs::Permissions::from_mode(0o777)).unwrap();
        },
        "permissions",
        &["chmod"],
    );
}

#[test]
fn a_library_without_a_manifest() {
    is_refused(
        |dir, _| compile_c("int nothing(void) { return 0; }", &dir.join(x())),
        "manifest",
        &["export_plugin!"],
    );
}

#[test]
fn a_plugin_for_another_major_of_the_api() {
    is_refused(
        |dir, good| {
            let mut bytes = fs::read(good).unwrap();
            let record = manifest_of(&bytes);
            bytes[record + 12] = 2;
            bytes[record + 14] = 0;
            fs::write(dir.join(x()), bytes).unwrap();
        },
        "api-version",
        &["2.0", "1.x"],
    );
}

#[test]
fn a_second_library_with_the_same_plugin_id_names_both() {
    let host = host_beside(|dir, good| {
        fs::copy(good, dir.join(x())).unwrap();
    });
    let reason = refusal(&host, &x());
    assert!(
        reason.contains(&library_name("conductor_plugin_fault")) && reason.contains("fault"),
        "{reason}"
    );
}

#[test]
fn a_platform_whose_plugin_is_nowhere_fails_by_name_and_the_rest_goes_on() {
    let host = Setup::new()
        .platform("bystander", "fault", "{}")
        .platform("lost", "nowhere", "{}")
        .start();
    host.wait("a load failure", |m| m.failures("lost", "load") >= 1.0);
    host.wait_for_log("nowhere");
    host.wait("the bystander's checks", |m| {
        m.checks("bystander", "healthy") >= 10.0
    });
}

#[test]
fn a_library_that_arrives_late_is_found_on_the_breakers_schedule() {
    let setup = Setup::without_plugins()
        .with("[breaker]\nreset_timeout = \"500ms\"\nmax_reset_timeout = \"500ms\"")
        .platform("early", "fault", "{}");
    let host = setup.start();
    host.wait("a load failure", |m| m.failures("early", "load") >= 1.0);
    host.setup.install(&library("conductor_plugin_fault"));
    host.wait("its first report", |m| m.checks("early", "healthy") >= 1.0);
}

#[test]
fn a_wrong_layout_is_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = crate::author::build_variant(folder.path(), "wrong-layout", |text| {
        text.replace(
            "pub measurements: RVec<AbiMeasurement>,",
            "pub measurements: RVec<AbiMeasurement>,\n    /// Too much.\n    pub more: u64,",
        )
        .replace(
            "message: self.message.into(),",
            "message: self.message.into(),\n            more: 0,",
        )
    });
    let setup =
        Setup::new()
            .platform("bystander", "fault", "{}")
            .platform("wrong", "wrong-layout", "{}");
    setup.install(&wrong);
    let host = setup.start();
    host.wait("an abi failure", |m| m.failures("wrong", "abi") >= 1.0);
    let log = host.log();
    let line = log
        .lines()
        .find(|line| line.contains("not loaded"))
        .unwrap();
    assert!(line.contains("`AbiReport` has 5 fields, this host expects 4; rebuild it with conductor-plugin-api 1.x"), "{line}");
    host.wait("the bystander's checks", |m| {
        m.checks("bystander", "healthy") >= 10.0
    });
}

/// Name of a file that the host takes for a library.
fn x() -> String {
    format!("x{}", library_suffix())
}

/// Returns the position of the manifest's record in a library.
fn manifest_of(bytes: &[u8]) -> usize {
    bytes
        .windows(8)
        .position(|window| window == b"CNDCTR\x1a\x01")
        .unwrap()
}

fn compile_c(source: &str, library: &Path) {
    let file: PathBuf = library.with_extension("c");
    fs::write(&file, source).unwrap();
    let compiler = if is_windows() {
        "x86_64-w64-mingw32-gcc"
    } else {
        "cc"
    };
    let done = Command::new(compiler)
        .args(["-shared", "-fPIC", "-o"])
        .arg(library)
        .arg(&file)
        .status()
        .unwrap();
    assert!(done.success());
    fs::remove_file(file).unwrap();
}
