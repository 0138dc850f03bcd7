//! The compilers of this machine, and a second one from Debian.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    harness::{artifacts, is_windows},
    tree::matrix,
};

/// A compiler, with the `cargo` that drives it.
#[derive(Clone)]
pub(crate) struct Toolchain {
    /// The name of its folder below `target/matrix`.
    pub(crate) name: &'static str,
    cargo: PathBuf,
    /// The target that it builds for, if that is not its own.
    cross: Option<&'static str>,
    /// The first one is the compiler.
    variables: Vec<(&'static str, PathBuf)>,
}

impl Toolchain {
    /// Returns the compiler that the host is built with.
    pub(crate) fn this() -> Self {
        let cross = is_windows().then_some("x86_64-pc-windows-gnu");
        // The registry's crates are present: they were built for the host. The output goes elsewhere.
        let profiles = if cross.is_some() { 2 } else { 1 };
        let shared = artifacts().ancestors().nth(profiles).unwrap().to_owned();
        Self {
            name: "this",
            cargo: env!("CARGO").into(),
            cross,
            variables: vec![
                ("RUSTC", beside(env!("CARGO"))),
                ("CARGO_BUILD_BUILD_DIR", shared),
            ],
        }
    }

    /// Returns nightly Rust, if rustup has it.
    pub(crate) fn nightly() -> Result<Self, String> {
        let output = Command::new("rustup")
            .args(["which", "--toolchain", "nightly", "cargo"])
            .output();
        let output = output.map_err(|_| "there is no rustup on this machine")?;
        if !output.status.success() {
            return Err("there is no nightly Rust on this machine".to_owned());
        }
        let cargo = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self {
            name: "nightly",
            cross: None,
            // Otherwise cargo would ask rustup for a compiler, and get this toolchain's.
            variables: vec![("RUSTC", beside(&cargo))],
            cargo: cargo.into(),
        })
    }

    /// Returns the compiler that Debian builds its browsers with, unpacked below `target` rather than installed.
    pub(crate) fn debian() -> Result<Self, String> {
        let folder = matrix().join("debian-rust");
        let root = folder.join("root/usr");
        if !root.join("bin/rustc").exists() {
            unpack_debians_compiler(&folder)?;
        }
        let toolchain = Self {
            name: "debian",
            cargo: env!("CARGO").into(),
            cross: None,
            variables: vec![
                ("RUSTC", root.join("bin/rustc")),
                ("LD_LIBRARY_PATH", root.join("lib/x86_64-linux-gnu")),
            ],
        };
        match toolchain.version().as_str() {
            "" => Err("Debian's compiler does not run on this machine".to_owned()),
            version if version == Self::this().version() => {
                Err(format!("Debian's compiler is this one, {version}"))
            }
            _ => Ok(toolchain),
        }
    }

    /// Returns `cargo` of this compiler, in a folder.
    pub(crate) fn cargo(&self, folder: &Path) -> Command {
        let mut command = Command::new(&self.cargo);
        for variable in ["RUSTC", "RUSTUP_TOOLCHAIN", "CARGO_TARGET_DIR", "RUSTFLAGS"] {
            command.env_remove(variable);
        }
        for (variable, value) in &self.variables {
            command.env(variable, value);
        }
        command.current_dir(folder);
        command
    }

    /// Returns the compiler's version, or an empty text if it does not run.
    pub(crate) fn version(&self) -> String {
        let output = self.rustc().arg("--version").output();
        output
            .map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
            .unwrap_or_default()
    }

    /// Returns `true` if it builds for another system than its own.
    pub(crate) fn is_cross(&self) -> bool {
        self.cross.is_some()
    }

    /// Returns the target that it builds for.
    pub(crate) fn target(&self) -> String {
        if let Some(cross) = self.cross {
            return cross.to_owned();
        }
        let output = self.rustc().arg("-vV").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix("host: "));
        line.unwrap().to_owned()
    }

    fn rustc(&self) -> Command {
        let (_, rustc) = &self.variables[0];
        let mut command = Command::new(rustc);
        for (variable, value) in &self.variables {
            command.env(variable, value);
        }
        command
    }
}

/// Returns the compiler that came with this `cargo`.
fn beside(cargo: &str) -> PathBuf {
    Path::new(cargo).with_file_name("rustc")
}

fn unpack_debians_compiler(folder: &Path) -> Result<(), String> {
    let unavailable = |what: &str| format!("Debian's rustc-web is not to be had here: {what}");
    fs::create_dir_all(folder).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let done = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .output()
            .map_err(|error| unavailable(&format!("{program}: {error}")))?;
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        match done.status.success() {
            true => Ok(said),
            false => Err(unavailable(String::from_utf8_lossy(&done.stderr).trim())),
        }
    };
    // Its dependencies from its own source package and from LLVM; every machine that compiles Rust has the rest.
    let depends = [
        "depends",
        "--recurse",
        "--no-recommends",
        "--no-suggests",
        "--no-conflicts",
        "--no-breaks",
        "--no-replaces",
        "--no-enhances",
        "rustc-web",
    ];
    let wanted = run("apt-cache", &depends)?;
    let mut wanted: Vec<&str> = wanted
        .lines()
        .filter(|line| {
            ["rustc-web", "libstd-rust-web", "libllvm"]
                .iter()
                .any(|name| line.starts_with(name))
        })
        .collect();
    wanted.sort_unstable();
    wanted.dedup();
    run("apt-get", &[&["download"], &wanted[..]].concat())?;
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".deb") {
            run("dpkg", &["-x", &name, "root"])?;
            fs::remove_file(folder.join(name)).unwrap();
        }
    }
    Ok(())
}
