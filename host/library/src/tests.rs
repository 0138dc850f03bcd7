//! Tests of whole files of every kind, through the whole crate.

use std::fs;

use super::*;

#[cfg(target_os = "linux")]
mod catalog;
#[cfg(target_os = "linux")]
mod folder;
#[cfg(target_os = "linux")]
mod messages;
#[cfg_attr(
    not(target_os = "linux"),
    expect(
        dead_code,
        reason = "the ELF library is made and vetted on Linux alone"
    )
)]
mod objects;
#[cfg(target_os = "linux")]
mod watch;
#[cfg(windows)]
mod windows;

/// A test folder with a store in it.
#[cfg(target_os = "linux")]
struct Place {
    dir: tempfile::TempDir,
    store: Store,
}

#[cfg(target_os = "linux")]
impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("state")).unwrap();
        Self { dir, store }
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.dir.path().join("x.so");
        fs::write(&path, bytes).unwrap();
        // Regardless of the umask of the test run.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        path
    }
}

fn inspect_bytes(name: &str, bytes: &[u8]) -> LibraryInspection {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, bytes).unwrap();
    inspect(&path)
}

fn passed(inspection: &LibraryInspection, rule: VettingRule) -> bool {
    let verdict = inspection
        .verdicts
        .iter()
        .find(|verdict| verdict.rule == rule);
    verdict.unwrap().outcome == RuleOutcome::Passed
}

#[test]
fn whatever_fuzzing_came_upon_is_taken_or_refused_in_printable_words() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let files = |target| fs::read_dir(corpus.join(target)).unwrap();
    let mut seen = 0;
    for file in files("library").chain(files("manifest")) {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        let shown = super::inspect_bytes(&bytes).to_string();
        assert!(!shown.contains(|c: char| c.is_control() && c != '\n'));
        seen += 1;
    }
    assert!(seen > 10, "the corpus is not where it was");
}

#[test]
fn a_dll_is_read_on_every_os() {
    let inspection = inspect_bytes("x.dll", &objects::dll(0x8664));
    assert_eq!(inspection.format, Some(ObjectFormat::Pe));
    assert_eq!(inspection.kind, Some(ObjectPurpose::SharedLibrary));
    assert_eq!(inspection.manifest.as_ref().unwrap().id, "specimen");
    assert!(passed(&inspection, VettingRule::Segments), "{inspection}");
    assert_eq!(
        passed(&inspection, VettingRule::Format),
        cfg!(windows),
        "{inspection}"
    );
    let for_this_machine = cfg!(all(windows, target_arch = "x86_64"));
    assert_eq!(
        passed(&inspection, VettingRule::Architecture),
        for_this_machine
    );
    let machine = inspect_bytes("x.dll", &objects::dll(0xaa64))
        .machine
        .unwrap();
    assert_eq!(
        machine.to_string(),
        "aarch64 (64 bits, little-endian) with windows"
    );
}

#[test]
fn a_dylib_and_a_bundle_are_read_on_every_os() {
    let (dylib, bundle, executable) = (6, 8, 2);
    for (filetype, kind) in [
        (dylib, ObjectPurpose::SharedLibrary),
        (bundle, ObjectPurpose::SharedLibrary),
        (executable, ObjectPurpose::Executable),
    ] {
        let inspection = inspect_bytes("x.dylib", &objects::dylib(0x0100_000c, filetype));
        assert_eq!(inspection.format, Some(ObjectFormat::MachO));
        assert_eq!(inspection.kind, Some(kind));
        assert_eq!(inspection.machine.as_ref().unwrap().processor, "aarch64");
        assert_eq!(inspection.libraries, ["libSystem.B.dylib"]);
        assert_eq!(inspection.manifest.as_ref().unwrap().version, "1.2.3");
        assert!(passed(&inspection, VettingRule::Segments), "{inspection}");
        assert_eq!(
            passed(&inspection, VettingRule::Format),
            cfg!(target_vendor = "apple")
        );
    }
}

#[test]
fn a_cut_off_dll_or_dylib_is_refused_before_it_is_loaded() {
    for whole in [objects::dll(0x8664), objects::dylib(0x0100_0007, 6)] {
        for length in 16..0x200 + Manifest::FULL_SIZE {
            let inspection = inspect_content(&whole[..length]);
            let refused = !passed(&inspection, VettingRule::Segments)
                || !passed(&inspection, VettingRule::Format);
            assert!(
                refused && !inspection.refusal().unwrap().is_not_a_plugin(),
                "{length}"
            );
        }
    }
}

fn inspect_content(bytes: &[u8]) -> LibraryInspection {
    let mut inspection = LibraryInspection::new(Path::new("x"));
    inspection.size = Some(bytes.len());
    judge_content(bytes, &mut inspection);
    inspection.leave_the_rest_open();
    inspection
}

#[cfg(target_os = "linux")]
mod elf {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_good_library_is_taken_and_copied() {
        let place = Place::new();
        let path = place.file(&objects::library());
        let vetted = vet(&path, &TrustPolicy::none(), &place.store).unwrap();
        assert_eq!(vetted.origin, path);
        assert_eq!(vetted.size, objects::library().len());
        assert_eq!(vetted.manifest.id, "specimen");
        assert_eq!(fs::read(&vetted.path).unwrap(), objects::library());
        assert_eq!(vetted.path.parent(), Some(place.store.folder()));
        let sum = std::process::Command::new("sha256sum")
            .arg(&path)
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&sum.stdout).starts_with(&vetted.sha256.to_string()));
        assert_eq!(format!("{:.12}", vetted.sha256).len(), 12);
    }

    #[test]
    fn a_replaced_library_is_another_copy_and_the_first_stays_whole() {
        let place = Place::new();
        let old = vet(
            &place.file(&objects::library()),
            &TrustPolicy::none(),
            &place.store,
        )
        .unwrap();
        let new = objects::library_with(&[(objects::NAME, b'B')]);
        let new = vet(&place.file(&new), &TrustPolicy::none(), &place.store).unwrap();
        assert_ne!(old.path, new.path);
        assert_eq!(new.manifest.name, "B specimen");
        assert_eq!(fs::read(&old.path).unwrap(), objects::library());
    }

    #[test]
    fn a_link_to_a_good_library_is_followed() {
        let place = Place::new();
        let path = place.file(&objects::small_library());
        let link = place.dir.path().join("link.so");
        std::os::unix::fs::symlink("x.so", &link).unwrap();
        let vetted = vet(&link, &TrustPolicy::none(), &place.store).unwrap();
        assert_eq!(vetted.origin, link);
        assert_eq!(
            vetted.path,
            vet(&path, &TrustPolicy::none(), &place.store).unwrap().path
        );
    }

    #[test]
    fn a_newer_minor_version_of_the_api_passes() {
        let bytes = objects::library_with(&[(objects::API_MINOR, 7)]);
        let inspection = inspect_content(&bytes);
        assert_eq!(inspection.refusal(), None);
        assert_eq!(inspection.manifest.unwrap().api.minor, 7);
    }

    #[test]
    fn a_manifest_survives_strip_and_the_loss_of_the_section_table() {
        let mut bytes = objects::small_library();
        // e_shoff, e_shnum and e_shstrndx of a 64-bit header.
        bytes[40..48].fill(0);
        bytes[60..64].fill(0);
        let inspection = inspect_content(&bytes);
        assert_eq!(inspection.refusal(), None, "{inspection}");
    }

    #[test]
    fn only_a_whole_library_without_a_manifest_is_not_a_plugin() {
        let plain = objects::compile(&["-shared", "-fPIC"], "int x;");
        assert!(inspect_content(&plain).refusal().unwrap().is_not_a_plugin());
        let cut = &plain[..plain.len() - 1];
        assert!(!inspect_content(cut).refusal().unwrap().is_not_a_plugin());
        let damaged = objects::library_with(&[(0, 0)]);
        assert!(
            !inspect_content(&damaged)
                .refusal()
                .unwrap()
                .is_not_a_plugin()
        );
        assert!(
            !inspect_content(b"text")
                .refusal()
                .unwrap()
                .is_not_a_plugin()
        );
    }

    #[test]
    fn every_truncation_is_refused_before_it_is_loaded() {
        let whole = objects::small_library();
        for length in 0..whole.len() {
            let rule = inspect_content(&whole[..length]).refusal().map(|r| r.rule);
            assert!(
                matches!(rule, Some(VettingRule::Format | VettingRule::Segments)),
                "{length}: {rule:?}"
            );
        }
    }

    #[test]
    fn headers_that_speak_of_more_than_is_there_are_refused() {
        let whole = objects::small_library();
        // In 64-bit ELF: the first segment's offset, length in the file and in memory; the second section's length.
        let sections = usize::from_ne_bytes(whole[40..48].try_into().unwrap());
        let (offset, length, memory, section) = (64 + 8, 64 + 32, 64 + 40, sections + 64 + 32);
        for (at, value) in [
            (offset, u64::MAX),
            (length, u64::MAX),
            (length, whole.len() as u64 + 1),
            (memory, 1),
            (section, u64::MAX),
            (section, whole.len() as u64),
        ] {
            let mut bytes = whole.clone();
            bytes[at..at + 8].copy_from_slice(&value.to_ne_bytes());
            let refusal = inspect_content(&bytes).refusal();
            assert_eq!(
                refusal.map(|r| r.rule),
                Some(VettingRule::Segments),
                "{at} {value}"
            );
        }
    }

    #[test]
    fn executables_of_every_sort_are_known() {
        let main = format!("{} int main(void) {{ return 0; }}", objects::NOTE);
        let pie = objects::compile(&["-pie", "-fPIE"], &main);
        // Built by linkers before 2016: without DT_FLAGS_1.
        let mut old_pie = pie.clone();
        let flags_1 = 0x6fff_fffb_u64.to_ne_bytes();
        let at = pie.windows(8).position(|tag| tag == flags_1).unwrap();
        old_pie[at + 8..at + 16].fill(0);
        let fixed = objects::compile(&["-no-pie"], &main);
        let start = format!("{} void _start(void) {{}}", objects::NOTE);
        let bare = objects::compile(&["-static-pie", "-fPIE", "-nostdlib"], &start);
        for executable in [pie, old_pie, fixed, bare] {
            let inspection = inspect_content(&executable);
            assert_eq!(inspection.kind, Some(ObjectPurpose::Executable));
            assert_eq!(inspection.refusal().unwrap().rule, VettingRule::Kind);
        }
        let object = inspect_content(&objects::compile(&["-c"], &main));
        assert_eq!(object.kind, Some(ObjectPurpose::Object));
    }

    #[test]
    fn a_library_that_can_also_be_started_is_a_library() {
        // Like the C library itself, which prints its version.
        let interpreter =
            r#"const char path[] __attribute__((section(".interp"))) = "/lib/ld.so";"#;
        let source = format!("{}{interpreter}", objects::NOTE);
        let library = objects::compile(&["-shared", "-fPIC"], &source);
        assert_eq!(inspect_content(&library).refusal(), None);
    }

    #[test]
    fn two_plugins_in_one_library_are_refused() {
        let second = objects::NOTE.replace("note[]", "second[]");
        let both = objects::compile(&["-shared", "-fPIC"], &format!("{}{second}", objects::NOTE));
        let refusal = inspect_content(&both).refusal().unwrap();
        assert_eq!(
            refusal.found,
            "it has 2 manifests, a library holds one plugin"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn no_bytes_at_all_cause_a_panic(
            flips in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, any::<u8>()), 1..24),
            cut in prop::option::weighted(0.2, any::<prop::sample::Index>()),
            format in 0..3,
        ) {
            let mut bytes = match format {
                0 => objects::small_library(),
                1 => objects::dll(0x8664),
                _ => objects::dylib(0x0100_0007, 6),
            };
            for (index, near, value) in flips {
                // Two in three hit the headers, which are the most sensitive.
                let range = if near == 0 { bytes.len() } else { 512 };
                bytes[index.index(range)] = value;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            }
            let inspection = inspect_content(&bytes);
            serde_json::to_string(&inspection).unwrap();
            prop_assert!(!inspection.to_string().contains(|c: char| c.is_control() && c != '\n'));
        }

        #[test]
        fn no_manifest_at_all_causes_a_panic(changes in prop::collection::vec((0..Manifest::FULL_SIZE, any::<u8>()), 1..40)) {
            let inspection = inspect_content(&objects::library_with(&changes));
            prop_assert!(!inspection.to_string().contains(|c: char| c.is_control() && c != '\n'));
        }
    }
}
