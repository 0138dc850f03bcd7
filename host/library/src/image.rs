//! The headers of an object file, for ELF, PE and Mach-O alike.
//!
//! Works on bytes in memory; accepts any bytes.

use std::fmt;

use conductor_plugin_api::manifest::Manifest;
use object::{
    BinaryFormat, FileKind, Object, ObjectKind, ObjectSection, ObjectSegment, macho,
    read::{
        NameOrOrdinal,
        macho::{LoadCommandIterator, MachHeader},
    },
};
use serde::Serialize;

use super::refusal::{RuleViolation, printable};

mod elf;

/// The contents of an object file's headers.
#[derive(Debug)]
pub(super) struct ObjectHeaders<'data> {
    pub(super) format: ObjectFormat,
    pub(super) machine: TargetMachine,
    pub(super) kind: ObjectPurpose,
    /// A part that the headers describe beyond the end of the file.
    pub(super) outside: Option<String>,
    pub(super) record: ManifestSection<'data>,
    /// The libraries it needs to be loaded; printable.
    pub(super) needs: Vec<String>,
}

impl<'data> ObjectHeaders<'data> {
    /// Reads the headers of `bytes`.
    pub(super) fn read(bytes: &'data [u8]) -> Result<Self, RuleViolation> {
        let other = |found: String| RuleViolation::new(found, take_the_build_for_this_host());
        if bytes.is_empty() {
            return Err(RuleViolation::new("it is empty", "copy the library again"));
        }
        let Ok(known) = FileKind::parse(bytes) else {
            if bytes.starts_with(DOS_PROGRAM) {
                return Err(RuleViolation::new(
                    "it begins like a PE file, but the headers behind that are cut off or damaged",
                    "copy the library again, whole",
                ));
            }
            let start = printable(&bytes[..bytes.len().min(8)]);
            return Err(other(format!(
                "it is no ELF, PE or Mach-O file (it begins with \"{start}\")"
            )));
        };
        match known {
            FileKind::Elf32 => elf::read::<object::elf::FileHeader32<_>>(bytes),
            FileKind::Elf64 => elf::read::<object::elf::FileHeader64<_>>(bytes),
            FileKind::Pe32 | FileKind::Pe64 | FileKind::MachO32 | FileKind::MachO64 => {
                read_other(bytes)
            }
            FileKind::MachOFat32 | FileKind::MachOFat64 => {
                return Err(RuleViolation::new(
                    "it is a universal Mach-O file, which holds libraries for several processors",
                    "take out the one for this machine: lipo -thin",
                ));
            }
            _ => {
                return Err(other(
                    "it is what a compiler hands to a linker, not a library".into(),
                ));
            }
        }
        .map_err(|error| {
            RuleViolation::new(
                format!("its headers are damaged ({error})"),
                "copy the library again, whole",
            )
        })
    }

    /// Requires the object file format of this OS.
    pub(super) fn is_of_this_format(&self) -> Result<(), RuleViolation> {
        let (found, wanted) = (self.format, ObjectFormat::of_this_host());
        if found == wanted {
            return Ok(());
        }
        Err(RuleViolation::new(
            format!("it is {found}, this host loads {wanted}"),
            take_the_build_for_this_host(),
        ))
    }

    /// Requires a build for this processor and OS.
    pub(super) fn is_for_this_machine(&self) -> Result<(), RuleViolation> {
        let host = TargetMachine::of_this_host();
        let same_os = self.machine.os.is_none() || self.machine.os == host.os;
        if same_os && self.machine.same_processor(&host) {
            return Ok(());
        }
        Err(RuleViolation::new(
            format!("it is built for {}, this host is {host}", self.machine),
            take_the_build_for_this_host(),
        ))
    }

    /// Requires all parts to be inside the file.
    pub(super) fn is_whole(&self) -> Result<(), RuleViolation> {
        match &self.outside {
            None => Ok(()),
            Some(found) => Err(RuleViolation::new(
                format!("it was cut off or damaged: {found}"),
                "copy it again under another name, and rename it when it is whole",
            )),
        }
    }

    /// Requires a shared library.
    pub(super) fn is_a_shared_library(&self) -> Result<(), RuleViolation> {
        if self.kind == ObjectPurpose::SharedLibrary {
            return Ok(());
        }
        Err(RuleViolation::new(
            format!("it is {}, not a shared library", self.kind),
            "build it with crate-type = [\"cdylib\"]",
        ))
    }
}

/// A PE file begins with a program for DOS, which says where its headers are.
const DOS_PROGRAM: &[u8] = b"MZ";

/// A family of object files.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectFormat {
    /// Linux, the BSDs and most others.
    Elf,
    /// Windows.
    Pe,
    /// macOS.
    #[serde(rename = "mach-o")]
    MachO,
}

impl ObjectFormat {
    const fn of_this_host() -> Self {
        if cfg!(windows) {
            Self::Pe
        } else if cfg!(target_vendor = "apple") {
            Self::MachO
        } else {
            Self::Elf
        }
    }
}

impl fmt::Display for ObjectFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Elf => "an ELF file (Linux and others)",
            Self::Pe => "a PE file (Windows)",
            Self::MachO => "a Mach-O file (macOS)",
        })
    }
}

/// The target a library is built for.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct TargetMachine {
    /// The processor under Rust's name, for example `x86_64`.
    pub processor: String,
    /// The width of its pointers.
    pub bits: u32,
    /// `true` for little-endian targets.
    pub little_endian: bool,
    /// The OS, if the file names one; many ELF files do not.
    pub os: Option<&'static str>,
}

impl TargetMachine {
    fn of_this_host() -> Self {
        Self {
            processor: std::env::consts::ARCH.into(),
            bits: usize::BITS,
            little_endian: cfg!(target_endian = "little"),
            os: Some(std::env::consts::OS),
        }
    }

    fn same_processor(&self, other: &Self) -> bool {
        self.processor == other.processor
            && self.bits == other.bits
            && self.little_endian == other.little_endian
    }
}

impl fmt::Display for TargetMachine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = if self.little_endian { "little" } else { "big" };
        let (processor, bits) = (&self.processor, self.bits);
        write!(f, "{processor} ({bits} bits, {end}-endian)")?;
        self.os.map_or(Ok(()), |os| write!(f, " with {os}"))
    }
}

/// The purpose of an object file.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectPurpose {
    /// Loaded into a process.
    SharedLibrary,
    /// Started as a process.
    Executable,
    /// Input of a linker.
    Object,
    /// A core dump.
    Core,
    /// Anything else.
    Other,
}

impl From<ObjectKind> for ObjectPurpose {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Dynamic => Self::SharedLibrary,
            ObjectKind::Executable => Self::Executable,
            ObjectKind::Relocatable => Self::Object,
            ObjectKind::Core => Self::Core,
            _ => Self::Other,
        }
    }
}

impl fmt::Display for ObjectPurpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SharedLibrary => "a shared library",
            Self::Executable => "an executable",
            Self::Object => "an object file",
            Self::Core => "a core dump",
            Self::Other => "something to be neither started nor loaded",
        })
    }
}

/// The manifest's section.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ManifestSection<'data> {
    None,
    One(&'data [u8]),
    /// The damage.
    Damaged(String),
}

/// Reads PE and Mach-O, for which the `object` crate's generic interface suffices.
fn read_other(bytes: &[u8]) -> object::Result<ObjectHeaders<'_>> {
    let file = object::File::parse(bytes)?;
    let (format, os, section) = match file.format() {
        BinaryFormat::Pe => (ObjectFormat::Pe, "windows", Manifest::PE_SECTION),
        _ => (ObjectFormat::MachO, "macos", Manifest::MACHO_SECTION),
    };
    Ok(ObjectHeaders {
        format,
        machine: machine(&file, Some(os)),
        kind: kind(&file),
        outside: outside(&file),
        record: match file.section_by_name(section).map(|section| section.data()) {
            None => ManifestSection::None,
            Some(Ok(bytes)) => ManifestSection::One(bytes),
            Some(Err(_)) => ManifestSection::Damaged("its manifest lies outside the file".into()),
        },
        needs: needs(&file),
    })
}

fn machine(file: &object::File<'_>, os: Option<&'static str>) -> TargetMachine {
    TargetMachine {
        processor: processor(file.architecture()),
        bits: if file.is_64() { 64 } else { 32 },
        little_endian: file.is_little_endian(),
        os,
    }
}

fn processor(architecture: object::Architecture) -> String {
    use object::Architecture as A;
    let name = match architecture {
        A::X86_64 | A::X86_64_X32 => "x86_64",
        A::I386 => "x86",
        A::Aarch64 | A::Aarch64_Ilp32 => "aarch64",
        A::Arm => "arm",
        other => return format!("{other:?}").to_lowercase(),
    };
    name.into()
}

fn kind(file: &object::File<'_>) -> ObjectPurpose {
    let bundle = match file {
        object::File::MachO32(file) => {
            file.macho_header().filetype(file.endian()) == macho::MH_BUNDLE
        }
        object::File::MachO64(file) => {
            file.macho_header().filetype(file.endian()) == macho::MH_BUNDLE
        }
        _ => false,
    };
    if bundle {
        ObjectPurpose::SharedLibrary
    } else {
        file.kind().into()
    }
}

fn outside(file: &object::File<'_>) -> Option<String> {
    // The generic interface skips load commands that cannot be read.
    let commands = match file {
        object::File::MachO32(file) => file.macho_load_commands().and_then(all_commands),
        object::File::MachO64(file) => file.macho_load_commands().and_then(all_commands),
        _ => Ok(()),
    };
    if commands.is_err() {
        return Some("its load commands do not lie inside it".into());
    }
    let segment = file.segments().position(|it| it.data().is_err());
    let section = file.sections().position(|it| it.data().is_err());
    segment
        .map(|n| format!("segment {n} does not lie inside it"))
        .or_else(|| section.map(|n| format!("section {n} does not lie inside it")))
}

fn all_commands<E: object::Endian>(mut commands: LoadCommandIterator<'_, E>) -> object::Result<()> {
    while let Some(command) = commands.next()? {
        command.variant()?;
    }
    Ok(())
}

/// Returns `true` if a library exports a symbol; `None` if that cannot be read.
pub(super) fn exports(bytes: &[u8], symbol: &str) -> Option<bool> {
    let file = object::File::parse(bytes).ok()?;
    // Mach-O prefixes C names with an underscore.
    let before: &[u8] = match file.format() {
        BinaryFormat::MachO => b"_",
        _ => b"",
    };
    for export in file.exports().ok()? {
        if let NameOrOrdinal::Name(name) = export.ok()?.name()
            && name.strip_prefix(before) == Some(symbol.as_bytes())
        {
            return Some(true);
        }
    }
    Some(false)
}

fn needs(file: &object::File<'_>) -> Vec<String> {
    let Ok(libraries) = file.import_libraries() else {
        return Vec::new();
    };
    let names = libraries.filter_map(Result::ok).map(|library| {
        let name = library.name();
        printable(&name[..name.len().min(MAX_NAME)])
    });
    names.take(MAX_NEEDS).collect()
}

fn take_the_build_for_this_host() -> String {
    use std::env::consts::{ARCH, OS};
    format!("put there the plugin's build for {OS} on {ARCH}")
}

/// More means damage, or an attempt to flood the terminal.
const MAX_NEEDS: usize = 200;
const MAX_NAME: usize = 200;
