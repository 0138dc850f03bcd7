//! ELF, in more detail than the generic interface: each header separately, so that a damaged file still shows its kind.

use conductor_plugin_api::manifest::Manifest;
use object::{
    Endianness, elf,
    read::elf::{
        Dyn as _, FileHeader, NoteIterator, ProgramHeader as _, SectionHeader as _, SectionTable,
    },
};

use super::{ManifestSection, ObjectFormat, ObjectHeaders, ObjectPurpose, TargetMachine, needs};

pub(super) fn read<H: FileHeader<Endian = Endianness>>(
    bytes: &[u8],
) -> object::Result<ObjectHeaders<'_>> {
    let header = H::parse(bytes)?;
    let endian = header.endian()?;
    let parts = ElfTables::<'_, H>::read(header, endian, bytes);
    Ok(ObjectHeaders {
        format: ObjectFormat::Elf,
        machine: machine(header, endian),
        kind: parts.kind(header.e_type(endian)),
        outside: parts.outside(),
        record: parts.record(),
        needs: object::File::parse(bytes).map_or_else(|_| Vec::new(), |file| needs(&file)),
    })
}

/// The readable tables of the file.
struct ElfTables<'data, H: FileHeader> {
    bytes: &'data [u8],
    endian: H::Endian,
    segments: object::Result<&'data [H::ProgramHeader]>,
    sections: object::Result<SectionTable<'data, H>>,
}

impl<'data, H: FileHeader<Endian = Endianness>> ElfTables<'data, H> {
    fn read(header: &H, endian: Endianness, bytes: &'data [u8]) -> Self {
        Self {
            bytes,
            endian,
            segments: header.program_headers(endian, bytes),
            sections: header.sections(endian, bytes),
        }
    }

    fn segments(&self) -> &'data [H::ProgramHeader] {
        self.segments.as_ref().copied().unwrap_or_default()
    }

    /// Returns a part that is not inside the file. The loader checks none of this and dies of a bus error.
    fn outside(&self) -> Option<String> {
        let size = self.bytes.len();
        if self.segments.is_err() {
            return Some(format!(
                "its segment table does not lie inside its {size} bytes"
            ));
        }
        for (n, segment) in self.segments().iter().enumerate() {
            let (offset, length) = segment.file_range(self.endian);
            if !self.holds(offset, length) {
                return Some(format!("segment {n} does not lie inside its {size} bytes"));
            }
            let memory: u64 = segment.p_memsz(self.endian).into();
            if segment.p_type(self.endian) == elf::PT_LOAD && length > memory {
                return Some(format!("segment {n} is longer in the file than in memory"));
            }
        }
        let Ok(sections) = &self.sections else {
            return Some(format!(
                "its section table does not lie inside its {size} bytes"
            ));
        };
        sections.iter().enumerate().find_map(|(n, section)| {
            let (offset, length) = section.file_range(self.endian)?;
            (!self.holds(offset, length))
                .then(|| format!("section {n} does not lie inside its {size} bytes"))
        })
    }

    fn holds(&self, offset: u64, length: u64) -> bool {
        let size = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        length == 0 || offset.checked_add(length).is_some_and(|end| end <= size)
    }

    fn kind(&self, said: elf::FileType) -> ObjectPurpose {
        let has = |kind| {
            self.segments()
                .iter()
                .any(|segment| segment.p_type(self.endian) == kind)
        };
        match said {
            elf::ET_DYN if self.starts_as_a_process() => ObjectPurpose::Executable,
            // Without the table nothing more can be known.
            elf::ET_DYN if self.segments.is_err() => ObjectPurpose::SharedLibrary,
            elf::ET_DYN if has(elf::PT_LOAD) && has(elf::PT_DYNAMIC) => {
                ObjectPurpose::SharedLibrary
            }
            elf::ET_EXEC => ObjectPurpose::Executable,
            elf::ET_REL => ObjectPurpose::Object,
            elf::ET_CORE => ObjectPurpose::Core,
            _ => ObjectPurpose::Other,
        }
    }

    /// Returns `true` for a position-independent executable, which has the type of a shared object. Linkers mark it;
    /// old ones did not, but reserved a place for the debugger, which no library has (some libraries do name an
    /// interpreter).
    fn starts_as_a_process(&self) -> bool {
        let mut interpreter = false;
        let mut debugger = false;
        for segment in self.segments() {
            interpreter |= segment.p_type(self.endian) == elf::PT_INTERP;
            let Ok(Some(entries)) = segment.dynamic(self.endian, self.bytes) else {
                continue;
            };
            for entry in entries {
                match entry.tag(self.endian) {
                    elf::DT_NULL => break,
                    elf::DT_FLAGS_1 if entry.val(self.endian) & elf::DF_1_PIE.0 != 0 => {
                        return true;
                    }
                    elf::DT_DEBUG => debugger = true,
                    _ => {}
                }
            }
        }
        interpreter && debugger
    }

    /// Returns the manifest's note: from its section or, without sections, from the note segments.
    fn record(&self) -> ManifestSection<'data> {
        let sections = self.sections.as_ref().ok();
        let section = sections
            .and_then(|all| all.section_by_name(self.endian, Manifest::ELF_SECTION.as_bytes()));
        let mut found = Vec::new();
        if let Some((_, section)) = section {
            match section.data(self.endian, self.bytes) {
                Ok(bytes) => self.collect(section.sh_addralign(self.endian), bytes, &mut found),
                Err(_) => {
                    return ManifestSection::Damaged("its manifest lies outside the file".into());
                }
            }
        } else {
            for segment in self.segments() {
                if segment.p_type(self.endian) == elf::PT_NOTE
                    && let Ok(bytes) = segment.data(self.endian, self.bytes)
                {
                    self.collect(segment.p_align(self.endian), bytes, &mut found);
                }
            }
        }
        match found[..] {
            [one] => ManifestSection::One(one),
            [] if section.is_none() => ManifestSection::None,
            [] => ManifestSection::Damaged(format!(
                "its section {} holds no note of {}",
                Manifest::ELF_SECTION,
                Manifest::ELF_OWNER
            )),
            _ => ManifestSection::Damaged(format!(
                "it has {} manifests, a library holds one plugin",
                found.len()
            )),
        }
    }

    fn collect(&self, align: H::Word, bytes: &'data [u8], found: &mut Vec<&'data [u8]>) {
        let Ok(notes) = NoteIterator::<'data, H>::new(self.endian, align, bytes) else {
            return;
        };
        let ours = notes
            .map_while(Result::ok)
            .filter(|note| {
                note.name() == Manifest::ELF_OWNER.as_bytes() && note.n_type(self.endian).0 == 1
            })
            .map(|note| note.desc());
        found.extend(ours);
    }
}

fn machine<H: FileHeader>(header: &H, endian: H::Endian) -> TargetMachine {
    let wide = header.is_class_64();
    let machine = header.e_machine(endian);
    let processor = match machine {
        elf::EM_X86_64 => "x86_64",
        elf::EM_386 => "x86",
        elf::EM_AARCH64 => "aarch64",
        elf::EM_ARM => "arm",
        elf::EM_RISCV if wide => "riscv64",
        elf::EM_RISCV => "riscv32",
        elf::EM_PPC64 => "powerpc64",
        elf::EM_PPC => "powerpc",
        elf::EM_S390 => "s390x",
        elf::EM_LOONGARCH if wide => "loongarch64",
        elf::EM_LOONGARCH => "loongarch32",
        elf::EM_MIPS if wide => "mips64",
        elf::EM_MIPS => "mips",
        elf::EM_SPARCV9 => "sparc64",
        _ => "",
    };
    TargetMachine {
        processor: match processor {
            "" => format!("ELF machine {}", machine.0),
            known => known.into(),
        },
        bits: if wide { 64 } else { 32 },
        little_endian: header.is_little_endian(),
        os: match header.e_ident().os_abi {
            // GNU's marks the use of extensions unknown to other systems' loaders.
            elf::ELFOSABI_GNU => Some("linux"),
            elf::ELFOSABI_FREEBSD => Some("freebsd"),
            elf::ELFOSABI_NETBSD => Some("netbsd"),
            elf::ELFOSABI_OPENBSD => Some("openbsd"),
            elf::ELFOSABI_SOLARIS => Some("solaris"),
            _ => None,
        },
    }
}
