//! Every command with its arguments and options, from the parser of the command line.

use clap::{Arg, Command};

use super::{cell, code};

/// Returns a section for the global options and one for each command.
pub(super) fn commands() -> String {
    let mut root = conductor::cli::command();
    root.build();
    let mut text = "## Global options\n\nEvery command takes them.\n\n".to_owned();
    text.push_str(&table(&root, Arg::is_global_set));
    let after = root.get_after_help();
    if let Some(after) = after {
        text.push_str(&format!(
            "\n## Exit codes\n\n{}",
            exit_codes(&after.to_string())
        ));
    }
    below(&root, &mut text);
    text
}

/// Adds the sections of the commands below one.
fn below(command: &Command, text: &mut String) {
    for command in command.get_subcommands() {
        let is_hidden = command.is_hide_set() && !FOR_WINDOWS.contains(&command.get_name());
        if is_hidden || command.get_name() == "help" {
            continue;
        }
        if !command.has_subcommands() {
            text.push_str(&section(command));
        }
        below(command, text);
    }
}

fn section(command: &Command) -> String {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    let about = command.get_long_about().or(command.get_about());
    let about = about.map(ToString::to_string).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").trim_end();
    let mut text = format!(
        "\n## `{name}`\n\n{}\n\n```text\n{usage}\n```\n",
        about.trim_end()
    );
    let own = |arg: &Arg| !arg.is_global_set();
    if command
        .get_arguments()
        .any(|arg| own(arg) && !is_left_out(arg))
    {
        text.push('\n');
        text.push_str(&table(command, own));
    }
    if let Some(after) = command.get_after_help() {
        text.push_str(&format!("\n{after}\n"));
    }
    text
}

/// Returns the table of the arguments that `wanted` selects.
fn table(command: &Command, wanted: impl Fn(&Arg) -> bool) -> String {
    let mut text = "| argument or option | default | meaning |\n|---|---|---|\n".to_owned();
    for arg in command.get_arguments() {
        if !wanted(arg) || is_left_out(arg) {
            continue;
        }
        let defaults = arg.get_default_values().iter();
        let defaults: Vec<_> = defaults
            .map(|value| code(&value.to_string_lossy()))
            .collect();
        let takes_value = arg.get_action().takes_values();
        let default = if takes_value {
            defaults.join(", ")
        } else {
            String::new()
        };
        let mut names = code(&arg.to_string());
        if let (Some(short), Some(_)) = (arg.get_short(), arg.get_long()) {
            names = format!("`-{short}`, {names}");
        }
        text.push_str(&format!("| {names} | {default} | {} |\n", meaning(arg)));
    }
    text
}

/// Returns the help of an argument, its values and its environment variable.
fn meaning(arg: &Arg) -> String {
    let help = arg.get_long_help().or(arg.get_help());
    let mut text = cell(&help.map(ToString::to_string).unwrap_or_default());
    if !text.ends_with('.') {
        text.push('.');
    }
    if arg.get_action().takes_values() {
        let values = arg.get_possible_values();
        let values = values.iter().filter(|value| !value.is_hide_set());
        let values: Vec<_> = values
            .map(|value| {
                let name = value.get_name();
                let help = value.get_help().map(ToString::to_string);
                match help.filter(|help| !help.eq_ignore_ascii_case(name)) {
                    Some(help) => format!("{} ({})", code(name), cell(&help)),
                    None => code(name),
                }
            })
            .collect();
        if !values.is_empty() {
            text.push_str(&format!(" One of {}.", values.join(", ")));
        }
    }
    if let Some(variable) = arg.get_env() {
        text.push_str(&format!(
            " Environment: {}.",
            code(&variable.to_string_lossy())
        ));
    }
    text
}

fn is_left_out(arg: &Arg) -> bool {
    arg.is_hide_set() || ["help", "version"].contains(&arg.get_id().as_str())
}

/// Returns the table of the exit codes, which the help of the program lists one a line.
fn exit_codes(help: &str) -> String {
    let rows = help.lines().filter_map(|line| {
        let (number, meaning) = line.trim().split_once(' ')?;
        let number: u8 = number.parse().ok()?;
        Some(format!("| {number} | {} |\n", cell(meaning)))
    });
    let rows: String = rows.collect();
    assert!(!rows.is_empty(), "the help lists the exit codes: {help}");
    format!("| code | meaning |\n|---|---|\n{rows}")
}

/// Commands that are hidden on other systems.
const FOR_WINDOWS: [&str; 2] = ["reload", "service"];
