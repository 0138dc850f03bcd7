//! Small object files to vet: an ELF library from the C compiler, handmade PE and Mach-O ones.

use std::{fs, path::Path, process::Command, sync::OnceLock};

use conductor_plugin_api::manifest::{CrateFacts, Manifest, record};

/// Offsets in the record; see the table in `conductor_plugin_api::manifest`.
pub(super) const API_MAJOR: usize = 12;
pub(super) const API_MINOR: usize = 14;
pub(super) const DOOR: usize = 18;
pub(super) const FLAGS: usize = 19;
pub(super) const ID: usize = 32;
pub(super) const VERSION: usize = 96;
pub(super) const NAME: usize = 160;
pub(super) const NEEDS: usize = 288;

/// Returns a shared library with a manifest that needs the C library, longer than 200 000 bytes.
pub(super) fn library() -> Vec<u8> {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    let big =
        "const char big[200000] = {1}; int puts(const char *); int f(void) { return puts(big); }";
    LIBRARY
        .get_or_init(|| compile(&["-shared", "-fPIC"], &format!("{NOTE}{big}")))
        .clone()
}

/// Returns the same, with about 15 000 bytes.
pub(super) fn small_library() -> Vec<u8> {
    static LIBRARY: OnceLock<Vec<u8>> = OnceLock::new();
    LIBRARY
        .get_or_init(|| compile(&["-shared", "-fPIC", "-s"], NOTE))
        .clone()
}

/// Returns a shared library with a changed manifest.
pub(super) fn library_with(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = library();
    let magic = bytes
        .windows(8)
        .position(|at| at == b"CNDCTR\x1a\x01")
        .unwrap();
    for (offset, value) in changes {
        bytes[magic + offset] = *value;
    }
    bytes
}

/// Returns an ELF library whose header names another processor than this host's.
pub(super) fn library_for_another_processor() -> Vec<u8> {
    let (aarch64, x86_64) = (183, 62);
    let mut bytes = library();
    bytes[18] = if cfg!(target_arch = "aarch64") {
        x86_64
    } else {
        aarch64
    };
    bytes
}

/// Compiles `source`, in which `NOTE` is replaced by the bytes of a manifest's note.
pub(super) fn compile(flags: &[&str], source: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("x.c"), dir.path().join("x.so"));
    let mut note = Vec::new();
    let size = u32::try_from(Manifest::FULL_SIZE).unwrap();
    for number in [10, size, 1] {
        note.extend(u32::to_ne_bytes(number));
    }
    note.extend(b"Conductor\0\0\0");
    note.extend(record(
        "specimen",
        "A specimen",
        &[],
        &CrateFacts::of("1.2.3"),
    ));
    let note: Vec<_> = note.iter().map(u8::to_string).collect();
    fs::write(&from, source.replace("NOTE", &note.join(","))).unwrap();
    cc(flags, &from, &to);
    fs::read(&to).unwrap()
}

fn cc(flags: &[&str], from: &Path, to: &Path) {
    let mut command = Command::new("cc");
    let output = command
        .args(flags)
        .arg(from)
        .arg("-o")
        .arg(to)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

pub(super) const NOTE: &str = r#"__attribute__((section(".note.conductor"), used, aligned(4))) static const unsigned char note[] = {NOTE};"#;

/// Returns a DLL with nothing but a manifest.
pub(super) fn dll(machine: u16) -> Vec<u8> {
    let mut file = Bytes::default();
    file.text("MZ", 60).u32(64).text("PE", 4);
    file.u16(machine)
        .u16(1)
        .u32(0)
        .u32(0)
        .u32(0)
        .u16(OPTIONAL_HEADER)
        .u16(0x2022);
    let optional = file.0.len();
    file.u16(0x20b)
        .pad(optional + 32)
        .u32(0x1000)
        .u32(0x200)
        .pad(optional + 56)
        .u32(0x2000)
        .u32(0x200);
    file.pad(optional + 108)
        .u32(16)
        .pad(optional + usize::from(OPTIONAL_HEADER));
    let size = u32::try_from(Manifest::FULL_SIZE).unwrap();
    file.text(Manifest::PE_SECTION, 8)
        .u32(size)
        .u32(0x1000)
        .u32(0x600)
        .u32(0x200);
    file.pad(0x200).record().pad(0x800);
    file.0
}

/// Returns a dylib with a manifest that needs one library.
pub(super) fn dylib(processor: u32, kind: u32) -> Vec<u8> {
    let mut file = Bytes::default();
    let (data, size) = (0x200, u32::try_from(Manifest::FULL_SIZE).unwrap());
    file.u32(0xfeed_facf)
        .u32(processor)
        .u32(3)
        .u32(kind)
        .u32(2)
        .u32(152 + 48)
        .u32(0)
        .u32(0);
    file.u32(0x19)
        .u32(152)
        .text("__DATA", 16)
        .u64(0)
        .u64(size)
        .u64(data)
        .u64(size);
    file.u32(3).u32(3).u32(1).u32(0);
    file.text(Manifest::MACHO_SECTION, 16)
        .text("__DATA", 16)
        .u64(0)
        .u64(size)
        .u32(data);
    file.u32(2).pad(32 + 152);
    file.u32(0xc)
        .u32(48)
        .u32(24)
        .u32(0)
        .u32(0)
        .u32(0)
        .text("libSystem.B.dylib", 24);
    file.pad(0x200).record();
    file.0
}

const OPTIONAL_HEADER: u16 = 240;

/// Little-endian fields in sequence.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn u16(&mut self, value: u16) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u32) -> &mut Self {
        self.0.extend(u64::from(value).to_le_bytes());
        self
    }

    fn text(&mut self, text: &str, length: usize) -> &mut Self {
        let end = self.0.len() + length;
        self.0.extend(text.bytes());
        self.pad(end)
    }

    fn pad(&mut self, end: usize) -> &mut Self {
        assert!(self.0.len() <= end);
        self.0.resize(end, 0);
        self
    }

    fn record(&mut self) -> &mut Self {
        self.0.extend(record(
            "specimen",
            "A specimen",
            &[],
            &CrateFacts::of("1.2.3"),
        ));
        self
    }
}
