//! The documentation: its links, commands and configs, the map of the code, and the pages generated from the code.

mod architecture;
mod commands;
mod configs;
mod links;
mod pages;
mod reference;
