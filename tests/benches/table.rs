//! The costs of a host: `cargo bench -p conductor-tests`.
//!
//! It runs real hosts under load, observes them from outside through `/proc` and `/metrics`, and prints each figure
//! with its ratio to the goal and to collectd, which takes its turn where it is installed (Debian: collectd-core,
//! collectd-dev and a C compiler). It takes less than five minutes, without the time to build. It requires Linux, and
//! root: other users cannot inspect workers.
//!
//! `-- --record` adds the figures to `docs/internals/performance-history.md`. `-- GROUP…` measures some of them.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a benchmark prints, and ends at the first surprise"
)]

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use clap::Parser as _;
use conductor_core::clock::Clock;
use costs::{CheckCost, LatenessSpread, SETTLE, ScrapeCost, WINDOW, pss};
use figures::{Figure, FigureGoal, Unit};
use host::{FAULTY, HostLoad, RunningHost};
use machine::{CpuReading, memory, resident};

mod built;
mod collectd;
mod costs;
mod figures;
mod host;
mod loaded;
mod machine;

fn main() {
    let options = TableOptions::parse();
    let clock = Clock::start();
    let table = Table {
        built: built::build(),
        preload: options.preload,
    };
    println!("built in {:.0} s", clock.now().as_secs_f64());
    let clock = Clock::start();
    println!("of goal  of collectd                                                  now  goal");
    let mut figures = Vec::new();
    for (name, measure) in GROUPS {
        if options.groups.is_empty() || options.groups.iter().any(|group| group == name) {
            measure(&table, &mut |figure| {
                figures::print(&figure);
                figures.push(figure);
            });
        }
    }
    println!("measured in {:.0} s", clock.now().as_secs_f64());
    if options.record {
        println!("added to {}", figures::record(&figures));
    }
}

/// Measures a host and prints what it costs
#[derive(clap::Parser)]
struct TableOptions {
    /// Adds the figures to docs/internals/performance-history.md
    #[arg(long)]
    record: bool,
    /// Loads a library into each host, for example another allocator
    #[arg(long, value_name = "LIBRARY")]
    preload: Option<PathBuf>,
    /// Passed by `cargo bench` to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    /// Groups of figures to measure; all if none is named
    #[arg(value_parser = GROUPS.map(|(name, _)| name))]
    groups: Vec<String>,
}

/// The groups of figures, in the order of the table.
const GROUPS: [(&str, MeasureGroup); 9] = [
    ("checks", Table::checks),
    ("many", Table::many),
    ("saturated", Table::saturated),
    ("lateness", Table::lateness),
    ("memory", Table::memory),
    ("bundled", Table::bundled),
    ("worker", Table::worker),
    ("idle", Table::idle),
    ("program", Table::program),
];

type MeasureGroup = fn(&Table, &mut dyn FnMut(Figure));

/// The build that every group measures.
struct Table {
    built: PathBuf,
    preload: Option<PathBuf>,
}

impl Table {
    fn start(&self, config: &str) -> RunningHost {
        RunningHost::start(&self.built, config, self.preload.as_deref())
    }

    /// 10 000 checks per second.
    fn checks(&self, add: &mut dyn FnMut(Figure)) {
        let collectd = collectd::cpu_of_a_callback(10_000, 1.0, WINDOW);
        for (isolation, name, goal) in [
            ("process", "isolated check, 10 000/s", 0.25),
            ("in-process", "in-process check, 10 000/s", 0.12),
        ] {
            let host = self.start(&TEN_THOUSAND.of(isolation).config(""));
            let cost = CheckCost::measure(&host, TEN_THOUSAND.interval);
            add(
                Figure::new(name, cost.cpu, Unit::Micros, FigureGoal::OfCollectd(goal))
                    .beside(collectd)
                    .with(format!("{:.0}/s", cost.rate)),
            );
            if isolation == "process" {
                let scrape = ScrapeCost::measure(&host, &cost, 20);
                add(Figure::new(
                    "scrape, CPU per series, 10 000 platforms",
                    scrape.cpu / scrape.series,
                    Unit::Nanos,
                    FigureGoal::AtMost(60e-9),
                ));
                add(Figure::new(
                    "memory (PSS) after scrapes, 10 000 platforms",
                    pss(&host),
                    Unit::Megabytes,
                    FigureGoal::AtMost(25e6),
                ));
            }
        }
    }

    /// 100 000 platforms.
    fn many(&self, add: &mut dyn FnMut(Figure)) {
        for (isolation, name, goal) in [
            (
                "process",
                "100 000 platforms at 5 s, isolated, of a core",
                0.04,
            ),
            (
                "in-process",
                "100 000 platforms at 5 s, in-process, of a core",
                0.025,
            ),
        ] {
            let load = HUNDRED_THOUSAND.of(isolation);
            let host = self.start(&load.config(""));
            let ready_after = host.ready_after.as_secs_f64();
            let cost = CheckCost::measure(&host, load.interval);
            add(
                Figure::new(name, cost.cores, Unit::Percent, FigureGoal::AtMost(goal))
                    .with(format!("{:.2} µs a check", cost.cpu * 1e6)),
            );
            if isolation == "in-process" {
                continue;
            }
            add(Figure::new(
                "ready with 100 000 platforms",
                ready_after,
                Unit::Millis,
                FigureGoal::AtMost(0.5),
            ));
            let before = pss(&host);
            let scrape = ScrapeCost::measure(&host, &cost, 5);
            let after = pss(&host);
            add(Figure::new(
                "scrape, CPU per series, 100 000 platforms",
                scrape.cpu / scrape.series,
                Unit::Nanos,
                FigureGoal::AtMost(60e-9),
            ));
            add(Figure::new(
                "one scrape of 100 000 platforms, CPU",
                scrape.cpu,
                Unit::Millis,
                FigureGoal::AtMost(0.2),
            )
            .with(format!(
                "{:.0} MB, {:.0} ms",
                scrape.bytes / 1e6,
                scrape.took * 1e3
            )));
            add(Figure::new(
                "series per platform",
                scrape.series / load.platforms as f64,
                Unit::Count,
                FigureGoal::AtMost(28.0),
            ));
            add(Figure::new(
                "memory during a scrape of 100 000 platforms",
                (scrape.most_memory - before).max(0.0),
                Unit::Megabytes,
                FigureGoal::AtMost(4e6),
            ));
            add(Figure::new(
                "memory (PSS) after scrapes, 100 000 platforms",
                after,
                Unit::Megabytes,
                FigureGoal::AtMost(110e6),
            ));
            let mut took: Vec<_> = (0..3)
                .map(|nth| {
                    host.reload(
                        &load.config(&format!("[platform.more{nth}]\nplugin = \"fault\"\n")),
                    )
                })
                .collect();
            took.sort();
            add(Figure::new(
                "reload of 100 000 platforms, one line changed",
                took[1].as_secs_f64(),
                Unit::Millis,
                FigureGoal::AtMost(0.3),
            ));
        }
    }

    /// More checks than a core can make.
    fn saturated(&self, add: &mut dyn FnMut(Figure)) {
        let collectd = collectd::cpu_of_a_callback(10_000, 0.005, WINDOW);
        for (isolation, name, goal) in [
            ("process", "saturated, isolated, checks per core", 1e6),
            ("in-process", "saturated, in-process, checks per core", 2e6),
        ] {
            let load = HostLoad {
                interval: Duration::from_millis(100),
                ..HUNDRED_THOUSAND.of(isolation)
            };
            let cost = CheckCost::measure(&self.start(&load.config("")), Duration::from_secs(2));
            add(Figure::new(
                name,
                1.0 / cost.cpu,
                Unit::PerSecond,
                FigureGoal::AtLeast(goal),
            )
            .beside(collectd.map(|cpu| 1.0 / cpu))
            .with(format!("{:.0}/s on {:.2} cores", cost.rate, cost.cores)));
        }
    }

    /// 10 000 checks per second, next to faulty platforms and scrapes.
    fn lateness(&self, add: &mut dyn FnMut(Figure)) {
        for (name, is_faulty, scrapes) in [
            ("lateness p99.9, 10 000/s", false, false),
            ("lateness p99.9, 18 faulty platforms", true, false),
            ("lateness p99.9, 18 faulty and two scrapers", true, true),
        ] {
            let faulty = if is_faulty {
                faulty_platforms(6)
            } else {
                String::new()
            };
            let host = self.start(&TEN_THOUSAND.config(&faulty));
            thread::sleep(TEN_THOUSAND.interval * 2);
            let before = host.scrape(|| {});
            let end = host.clock.now() + WINDOW;
            if scrapes {
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| {
                            while host.clock.now() < end {
                                host.scrape(|| {});
                            }
                        });
                    }
                });
            } else {
                thread::sleep(WINDOW);
            }
            let lateness = LatenessSpread::between(&before, &host.scrape(|| {}));
            add(Figure::new(
                name,
                lateness.quantile(0.999),
                Unit::Millis,
                FigureGoal::AtMost(0.011),
            )
            .with(format!(
                "p50 {:.1} ms, p99 {:.1} ms",
                lateness.quantile(0.5) * 1e3,
                lateness.quantile(0.99) * 1e3
            )));
        }
    }

    /// Memory that is given back.
    fn memory(&self, add: &mut dyn FnMut(Figure)) {
        let host = self.start(&TEN_THOUSAND.config(""));
        thread::sleep(Duration::from_secs(5));
        let before = pss(&host);
        let mut add = |name| {
            let now = pss(&host);
            add(
                Figure::new(name, now / before, Unit::Times, FigureGoal::AtMost(1.1)).with(
                    format!("{:.1} MB, before {:.1} MB", now / 1e6, before / 1e6),
                ),
            );
        };
        (0..20).for_each(|_| drop(host.scrape(|| {})));
        add("memory after 20 scrapes");
        for nth in 0..5 {
            let more = format!("[platform.more{nth}]\nplugin = \"fault\"\n");
            host.reload(&TEN_THOUSAND.config(&more));
        }
        thread::sleep(SETTLE);
        add("memory after 5 reloads");
        host.reload(&TEN_THOUSAND.config(&faulty_platforms(100)));
        thread::sleep(Duration::from_secs(5));
        host.reload(&TEN_THOUSAND.config(""));
        thread::sleep(SETTLE);
        add("memory after 300 faulty platforms");
    }

    /// Platforms of all bundled plugins.
    fn bundled(&self, add: &mut dyn FnMut(Figure)) {
        let server = host::serve_anything();
        let mut config = host::settings("process", Duration::from_secs(5));
        for nth in 0..703 {
            let (plugin, settings) = match nth % 4 {
                0 => ("fault", String::new()),
                1 => ("http", format!("url = \"http://{server}/\"")),
                2 => ("tcp", format!("address = \"{server}\"")),
                _ => ("disk", "path = \"/\"".to_owned()),
            };
            writeln!(
                config,
                "[platform.p{nth}]\nplugin = \"{plugin}\"\nconfig = {{ {settings} }}"
            )
            .unwrap();
        }
        let host = self.start(&config);
        thread::sleep(Duration::from_secs(6));
        (0..10).for_each(|_| drop(host.scrape(|| {})));
        let pids = host.pids();
        add(Figure::new(
            "703 platforms of four plugins, RSS of the host",
            resident(&pids[0]),
            Unit::Megabytes,
            FigureGoal::AtMost(30e6),
        )
        .with(format!(
            "PSS with {} workers {:.1} MB",
            pids.len() - 1,
            pss(&host) / 1e6
        )));
        let private = |pid: &String| memory(pid, &["Private_Clean", "Private_Dirty"]);
        let least = pids[1..].iter().map(private).fold(f64::INFINITY, f64::min);
        add(Figure::new(
            "private memory of a worker",
            least,
            Unit::Kilobytes,
            FigureGoal::AtMost(400e3),
        )
        .with("the least of four plugins".to_owned()));
    }

    /// The start of a worker while no other starts.
    fn worker(&self, add: &mut dyn FnMut(Figure)) {
        let place = tempfile::tempdir().unwrap();
        let catalog = loaded::catalog(&self.built, place.path());
        let vetted = catalog.find("fault").unwrap();
        let clock = Clock::start();
        let mut took: Vec<_> = (0..20)
            .map(|_| {
                thread::sleep(Duration::from_millis(100));
                let start = clock.now();
                drop(loaded::worker(&vetted));
                let took = clock.now() - start;
                loaded::wait_for_children_to_end();
                took.as_secs_f64()
            })
            .collect();
        took.sort_by(f64::total_cmp);
        add(Figure::new(
            "lone worker start",
            took[took.len() / 2],
            Unit::Millis,
            FigureGoal::AtMost(2e-3),
        )
        .with(format!("least {:.1} ms", took[0] * 1e3)));
    }

    /// A host that has almost nothing to do.
    fn idle(&self, add: &mut dyn FnMut(Figure)) {
        let load = HostLoad {
            isolation: "process",
            platforms: 10,
            interval: Duration::from_secs(5),
        };
        let host = self.start(&load.config(""));
        thread::sleep(load.interval);
        let (pids, start) = (host.pids(), host.clock.now());
        let before = CpuReading::of(&pids);
        thread::sleep(3 * load.interval);
        let spent = CpuReading::of(&pids).since(&before);
        add(Figure::new(
            "ten platforms at 5 s, of a core",
            spent.as_secs_f64() / (host.clock.now() - start).as_secs_f64(),
            Unit::Percent,
            FigureGoal::AtMost(0.0003),
        ));
    }

    /// The size of the program.
    fn program(&self, add: &mut dyn FnMut(Figure)) {
        let program = built::host_program(&self.built);
        let stripped = tempfile::NamedTempFile::new().unwrap();
        let strip = Command::new("strip")
            .args(["--strip-all", "-o"])
            .arg(stripped.path())
            .arg(&program)
            .status();
        let size = |path: &Path| fs::metadata(path).unwrap().len() as f64;
        let unstripped = size(&program);
        let is_stripped = strip.is_ok_and(|status| status.success());
        add(Figure::new(
            "program `conductor`, stripped",
            if is_stripped {
                size(stripped.path())
            } else {
                unstripped
            },
            Unit::Megabytes,
            FigureGoal::AtMost(15e6),
        )
        .with(format!(
            "release; {:.0} MB unstripped; packages have profile dist",
            unstripped / 1e6
        )));
    }
}

impl HostLoad {
    fn of(self, isolation: &'static str) -> Self {
        Self { isolation, ..self }
    }
}

/// Returns platforms that crash, hang and spin, so many of each, of a plugin of their own.
fn faulty_platforms(each: usize) -> String {
    let mut text = String::new();
    for fault in ["abort", "hang", "spin"] {
        for nth in 0..each {
            writeln!(
                text,
                "[platform.{fault}{nth}]\nplugin = \"{FAULTY}\"\nconfig = {{ check = {{ fault = \"{fault}\" }} }}"
            )
            .unwrap();
        }
    }
    text
}

const TEN_THOUSAND: HostLoad = HostLoad {
    isolation: "process",
    platforms: 10_000,
    interval: Duration::from_secs(1),
};
const HUNDRED_THOUSAND: HostLoad = HostLoad {
    isolation: "process",
    platforms: 100_000,
    interval: Duration::from_secs(5),
};
