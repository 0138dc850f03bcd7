//! The figures of a run: printed next to their goals, and added to the history in `docs/`.

use std::{fs, path::Path, process::Command};

/// One row of the table.
pub(crate) struct Figure {
    name: &'static str,
    value: f64,
    unit: Unit,
    goal: FigureGoal,
    /// The same figure of collectd, measured in the same minutes.
    collectd: Option<f64>,
    /// Further observations.
    remark: String,
}

/// The goal of a figure.
#[derive(Clone, Copy)]
pub(crate) enum FigureGoal {
    AtMost(f64),
    AtLeast(f64),
    /// At most this share of collectd's.
    OfCollectd(f64),
}

/// The form in which a value is shown.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Micros,
    Millis,
    Nanos,
    /// Of one core.
    Percent,
    PerSecond,
    Megabytes,
    Kilobytes,
    /// A multiple of the value before.
    Times,
    Count,
}

impl Unit {
    /// Returns the text of a value in base units: seconds, bytes, 1.
    fn show(self, value: f64) -> String {
        match self {
            Self::Micros => format!("{:.2} µs", value * 1e6),
            Self::Millis => format!("{:.1} ms", value * 1e3),
            Self::Nanos => format!("{:.1} ns", value * 1e9),
            Self::Percent => format!("{:.3} %", value * 100.0),
            Self::PerSecond => format!("{value:.0}/s"),
            Self::Megabytes => format!("{:.1} MB", value / 1e6),
            Self::Kilobytes => format!("{:.0} kB", value / 1e3),
            Self::Times => format!("{value:.2} x"),
            Self::Count => format!("{value:.1}"),
        }
    }
}

impl Figure {
    /// Returns a figure that collectd does not have.
    pub(crate) fn new(name: &'static str, value: f64, unit: Unit, goal: FigureGoal) -> Self {
        Self {
            name,
            value,
            unit,
            goal,
            collectd: None,
            remark: String::new(),
        }
    }

    /// Adds collectd's value, if it was measured.
    pub(crate) fn beside(self, collectd: Option<f64>) -> Self {
        Self { collectd, ..self }
    }

    /// Adds a remark.
    pub(crate) fn with(self, remark: String) -> Self {
        Self { remark, ..self }
    }

    /// Returns the cell of the history.
    fn cell(&self) -> String {
        let value = self.unit.show(self.value);
        match self.collectd {
            Some(peer) => format!("{value} ({:.2})", self.value / peer),
            None => value,
        }
    }

    /// Returns the line of the table: the ratios first.
    fn line(&self) -> String {
        let of_goal = match self.goal {
            FigureGoal::AtMost(goal) => Some(self.value / goal),
            FigureGoal::AtLeast(goal) => Some(goal / self.value),
            FigureGoal::OfCollectd(share) => self.collectd.map(|peer| self.value / peer / share),
        };
        let of_collectd = self.collectd.map(|peer| self.value / peer);
        let ratio =
            |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        let goal = match self.goal {
            FigureGoal::AtMost(goal) => format!("≤ {}", self.unit.show(goal)),
            FigureGoal::AtLeast(goal) => format!("≥ {}", self.unit.show(goal)),
            FigureGoal::OfCollectd(share) => format!("≤ {share} of collectd"),
        };
        format!(
            "{:>7} {:>9}  {:<46} {:>12}  {goal:<18} {}",
            ratio(of_goal),
            ratio(of_collectd),
            self.name,
            self.unit.show(self.value),
            self.remark
        )
        .trim_end()
        .to_owned()
    }
}

/// Prints a figure as soon as it is known.
#[expect(clippy::print_stdout, reason = "a benchmark prints")]
pub(crate) fn print(figure: &Figure) {
    println!("{}", figure.line());
}

/// Adds a column with these figures to the history, and returns the page's path.
pub(crate) fn record(figures: &[Figure]) -> &'static str {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let page = workspace.join(HISTORY);
    let text = fs::read_to_string(&page).unwrap();
    let title = format!("{}, {}", revision(workspace), machine());
    fs::write(page, with_column(&text, &title, figures)).unwrap();
    HISTORY
}

/// Returns the page with one more column in its table, and a row for each figure that is new.
fn with_column(page: &str, title: &str, figures: &[Figure]) -> String {
    let (mut text, mut rows, mut columns) = (String::new(), Vec::new(), 0);
    for line in page.lines() {
        if let Some((name, _)) = line.strip_prefix("| ").and_then(|row| row.split_once(" |")) {
            let cell = match figures.iter().find(|figure| figure.name == name) {
                Some(figure) => figure.cell(),
                None if rows.is_empty() => title.to_owned(),
                None => "-".to_owned(),
            };
            columns = line.matches('|').count() - 2;
            rows.push(name);
            text += &format!("{line} {cell} |\n");
        } else if line.starts_with("|-") {
            text += &format!("{line}---|\n");
        } else {
            text += &format!("{line}\n");
        }
    }
    for figure in figures.iter().filter(|figure| !rows.contains(&figure.name)) {
        let earlier = " - |".repeat(columns);
        text += &format!("| {} |{earlier} {} |\n", figure.name, figure.cell());
    }
    text
}

fn revision(workspace: &Path) -> String {
    git(workspace, &["log", "-1", "--format=%cs `%h`"])
        + match git(
            workspace,
            &["status", "--porcelain", "--untracked-files=no"],
        )
        .as_str()
        {
            "" => "",
            _ => " with changes",
        }
}

fn git(workspace: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git")
        .args(arguments)
        .current_dir(workspace)
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Returns the number and model of the machine's cores, and its kernel.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}", kernel.trim())
}

const HISTORY: &str = "docs/internals/performance-history.md";
