//! `conductor breaker open|close|release|reset`: what an operator wants of platforms' breakers.

use clap::ValueEnum;

use super::{
    CliError, Exit,
    client::{Client, Remote, platform_path},
    print,
};

#[derive(clap::Args)]
pub(super) struct Args {
    /// What to do
    order: Order,
    /// Platforms, by name
    #[arg(required = true, value_name = "PLATFORM")]
    platforms: Vec<String>,
    #[command(flatten)]
    remote: Remote,
}

#[derive(Clone, Copy, ValueEnum)]
enum Order {
    /// Let no check through until it is released or reset
    Open,
    /// Let every check through, whatever becomes of it, until it is released or reset
    Close,
    /// Go by the checks again; one held open lets a trial through first
    Release,
    /// Be closed, and know of no past failure
    Reset,
}

pub(super) fn run(args: &Args) -> Result<Exit, CliError> {
    let client = Client::open(&args.remote)?;
    let order = args.order.to_possible_value();
    let order = order.as_ref().map_or("", |order| order.get_name());
    each(&args.platforms, |platform| {
        let path = format!("{}/breaker/{order}", platform_path(platform));
        print(&client.order(&path, "")?)
    })
}

/// Does something for each platform, the last one too if one before is refused; fails if one was.
pub(super) fn each(
    platforms: &[String],
    act: impl Fn(&str) -> Result<(), CliError>,
) -> Result<Exit, CliError> {
    let mut exit = Exit::Ok;
    for platform in platforms {
        if let Err(error) = act(platform) {
            exit = error.exit();
            error.print();
        }
    }
    Ok(exit)
}
