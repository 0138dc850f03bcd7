//! The commands in the documentation, as the command line parses them.

use std::collections::BTreeSet;

use clap::{Command, error::ErrorKind};

use super::pages::{self, Page};

#[test]
fn every_command_in_the_documentation_is_one() {
    let mut wrong = Vec::new();
    for page in pages::all() {
        // The changelog also names what is gone.
        if page.path == "CHANGELOG.md" {
            continue;
        }
        for line in lines(&page) {
            if let Err(problem) = parse(&line) {
                wrong.push(format!("{}: {line}\n  {problem}", page.path));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_option_that_operators_read_of_exists() {
    let mut options = BTreeSet::new();
    collect(&conductor::cli::command(), &mut options);
    let mut wrong = Vec::new();
    for page in pages::all() {
        if !page.path.starts_with("docs/operate/") {
            continue;
        }
        for code in page.code() {
            let option = code.split([' ', '=']).next().unwrap_or_default();
            let Some(name) = option.strip_prefix("--") else {
                continue;
            };
            let known = match name.strip_suffix('*') {
                Some(start) => options.iter().any(|option| option.starts_with(start)),
                None => options.contains(name),
            };
            if !known {
                wrong.push(format!("{}: {code}", page.path));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "no command has these:\n{}",
        wrong.join("\n")
    );
}

/// Returns the lines of a page that start the program: in shell blocks, in sessions and in inline code.
fn lines(page: &Page) -> Vec<String> {
    let mut lines = page.code();
    for block in page.blocks("sh") {
        let commands = block.lines().flat_map(|line| line.split(" && "));
        lines.extend(commands.map(str::to_owned));
    }
    for block in page.blocks("console") {
        let commands = block.lines().filter_map(|line| line.strip_prefix("$ "));
        lines.extend(commands.map(str::to_owned));
    }
    lines.retain(|line| PROGRAMS.iter().any(|program| line.starts_with(program)));
    // Only the host starts this one, and the parser does not know it.
    lines.retain(|line| line != "conductor worker");
    lines
}

/// Parses a command line up to a redirection or a placeholder.
fn parse(line: &str) -> Result<(), String> {
    let words = shlex::split(line).ok_or("its quotes do not match")?;
    let ends = |word: &String| [">", "|", "<", "…", "COMMAND"].contains(&word.as_str());
    let words = words.into_iter().take_while(|word| !ends(word));
    let Err(error) = conductor::cli::command().try_get_matches_from(words) else {
        return Ok(());
    };
    match error.kind() {
        // Text may name a command without its arguments.
        ErrorKind::MissingRequiredArgument
        | ErrorKind::MissingSubcommand
        | ErrorKind::DisplayHelp
        | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::DisplayVersion => Ok(()),
        _ => Err(error.to_string()),
    }
}

/// Adds the long options of a command and of those below it.
fn collect(command: &Command, options: &mut BTreeSet<String>) {
    let own = command.get_arguments().filter_map(|arg| arg.get_long());
    options.extend(own.map(str::to_owned));
    options.extend(["help", "version"].map(str::to_owned));
    for below in command.get_subcommands() {
        collect(below, options);
    }
}

/// The program as pages call it.
const PROGRAMS: [&str; 2] = ["conductor ", "target/release/conductor "];
