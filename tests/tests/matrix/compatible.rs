//! Compatible plugins: those of other compilers, profiles, allocators and API versions.

use std::{path::PathBuf, rc::Rc};

use crate::{
    Row,
    crossing::{OF_TODAY, crosses, crosses_to},
    freeze,
    harness::workspace,
    next,
    toolchain::Toolchain,
    tree::{Build, Profile, Tree, succeeded},
};

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = of_compilers();
    rows.extend(of_allocators());
    rows.extend(of_versions());
    rows
}

/// Returns the rows for Windows, under wine. Plugins in C are in the scenarios, with today's header and each that was
/// released.
pub(crate) fn rows_of_windows() -> Vec<Row> {
    let mut trees: Vec<(String, Box<dyn Fn() -> Tree>)> = vec![(
        "a plugin of this compiler".to_owned(),
        Box::new(Tree::today),
    )];
    for version in freeze::frozen() {
        trees.push((
            format!("the frozen plugin of {version}"),
            Box::new(move || Tree::frozen(&version)),
        ));
    }
    let mut rows = Vec::new();
    for (name, tree) in trees {
        let tree = Rc::new(tree);
        for (profile, build) in PROFILES {
            let tree = Rc::clone(&tree);
            rows.push(row(&format!("{name}, {build}"), move || {
                crosses(&built(&tree(), profile, ""), &[]);
                Ok(())
            }));
        }
    }
    rows.push(next_plugin());
    rows
}

const PROFILES: [(Profile, &str); 2] = [(Profile::Debug, "debug"), (Profile::Release, "release")];

fn next_plugin() -> Row {
    row("a plugin of the next minor", || {
        let library = built(&next::plugin(), Profile::Debug, "next");
        crosses(&library, &[OF_TODAY, next::OF_AN_OLD_HOST]);
        Ok(())
    })
}

fn of_compilers() -> Vec<Row> {
    type Find = fn() -> Result<Toolchain, String>;
    let this: Find = || Ok(Toolchain::this());
    let plain = [
        ("this compiler", this, ""),
        ("nightly", Toolchain::nightly, ""),
        (
            "nightly with random layouts",
            Toolchain::nightly,
            "-Zrandomize-layout",
        ),
        ("Debian's own compiler", Toolchain::debian, ""),
    ];
    let mut rows: Vec<Row> = Vec::new();
    for (compiler, find, flags) in plain {
        for (profile, build) in PROFILES {
            rows.push(row(
                &format!("a plugin of {compiler}, {build}"),
                move || {
                    let toolchain = &find()?;
                    let features = "";
                    let library = Tree::today().build(&Build {
                        toolchain,
                        profile,
                        features,
                        flags,
                    });
                    crosses(&library, &[OF_TODAY]);
                    Ok(())
                },
            ));
        }
    }
    rows.push(row("a plugin optimised as a whole and stripped", || {
        crosses(
            &built(&Tree::today(), Profile::LtoStripped, ""),
            &[OF_TODAY],
        );
        Ok(())
    }));
    rows.push(row(
        "a host of nightly with a plugin of this compiler",
        || {
            let toolchain = &Toolchain::nightly()?;
            let host = Tree::new("today-host", &["plugin-api", "host"], &|_, text| text);
            let host = host.build_host(&debug(toolchain, ""));
            crosses_to(
                &host,
                &built(&Tree::today(), Profile::Debug, ""),
                &[OF_TODAY],
            );
            Ok(())
        },
    ));
    rows
}

fn of_allocators() -> Vec<Row> {
    let plugin = row("a plugin with another allocator", || {
        let library = built(&Tree::today(), Profile::Debug, "other-allocator");
        crosses(&library, &[OF_TODAY]);
        Ok(())
    });
    let host = row(
        "a host with another allocator, and both with one of their own",
        || {
            for features in ["", "other-allocator"] {
                let library = built(&Tree::today(), Profile::Debug, features);
                crosses_to(&host_with_another_allocator(), &library, &[OF_TODAY]);
            }
            Ok(())
        },
    );
    vec![plugin, host]
}

fn of_versions() -> Vec<Row> {
    let mut rows = Vec::new();
    for version in freeze::frozen() {
        let kept = version.clone();
        let golden = move || built(&Tree::frozen(&kept), Profile::Debug, "");
        let of_today = golden.clone();
        rows.push(row(&format!("the frozen plugin of {version}"), move || {
            crosses(&of_today(), &[]);
            Ok(())
        }));
        rows.push(row(
            &format!("the frozen plugin of {version} on a host of the next minor"),
            move || {
                crosses_to(&next_host(), &golden(), &next::OF_AN_OLD_PLUGIN);
                Ok(())
            },
        ));
    }
    rows.push(next_plugin());
    rows.push(row(
        "a plugin of the next minor on a host of the next minor",
        || {
            let library = built(&next::plugin(), Profile::Debug, "next");
            let [module, probe] = next::OF_A_NEW_PLUGIN;
            crosses_to(
                &next_host(),
                &library,
                &[OF_TODAY, module, probe, next::OF_A_NEW_HOST],
            );
            Ok(())
        },
    ));
    rows
}

fn next_host() -> PathBuf {
    next::host().build_host(&debug(&Toolchain::this(), ""))
}

fn host_with_another_allocator() -> PathBuf {
    let name = "host_with_another_allocator";
    let target = crate::harness::artifacts().parent().unwrap();
    let output = Toolchain::this()
        .cargo(workspace())
        .args([
            "build",
            "--package",
            "conductor-tests",
            "--features",
            "matrix",
        ])
        .args(["--example", name, "--target-dir"])
        .arg(target)
        .output()
        .unwrap();
    succeeded(&output);
    target.join("debug/examples").join(name)
}

fn built(tree: &Tree, profile: Profile, features: &str) -> PathBuf {
    let toolchain = &Toolchain::this();
    let flags = "";
    tree.build(&Build {
        toolchain,
        profile,
        features,
        flags,
    })
}

pub(crate) fn debug<'a>(toolchain: &'a Toolchain, features: &'a str) -> Build<'a> {
    let profile = Profile::Debug;
    let flags = "";
    Build {
        toolchain,
        profile,
        features,
        flags,
    }
}

pub(crate) fn row(name: &str, run: impl Fn() -> Result<(), String> + 'static) -> Row {
    (name.to_owned(), Box::new(run))
}
