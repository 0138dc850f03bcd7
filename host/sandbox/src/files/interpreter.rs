//! The file the kernel opens in addition to a program to run it: the loader of a binary, the interpreter of a script.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use conductor_library::file_reader;
use object::{
    Endianness,
    elf::{FileHeader32, FileHeader64},
    read::elf::{FileHeader, ProgramHeader as _},
};

/// Returns the file the kernel starts in place of the program.
pub(super) fn interpreter(program: &Path) -> Option<PathBuf> {
    let mut head = Vec::new();
    // Opened without a helper thread: a worker that applies its sandbox has a single thread.
    let (file, _) = file_reader::open(program).ok()?;
    file.take(HEAD).read_to_end(&mut head).ok()?;
    let path = match head.as_slice() {
        [b'#', b'!', line @ ..] => {
            let line = line.split(|&b| b == b'\n').next()?;
            let mut words = line.split(|b| b" \t".contains(b)).filter(|w| !w.is_empty());
            words.next()?.to_vec()
        }
        bytes => loader::<FileHeader64<Endianness>>(bytes)
            .or_else(|| loader::<FileHeader32<Endianness>>(bytes))?,
    };
    let path = PathBuf::from(String::from_utf8(path).ok()?);
    path.is_absolute().then_some(path)
}

fn loader<Header: FileHeader>(bytes: &[u8]) -> Option<Vec<u8>> {
    let header = Header::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let mut loaders = segments
        .iter()
        .filter_map(|segment| segment.interpreter(endian, bytes).ok()?);
    Some(loaders.next()?.to_vec())
}

/// The headers and the loader's name are in the first page.
const HEAD: u64 = 4096;
