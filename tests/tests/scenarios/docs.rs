//! The documentation: its links, commands and configs, the map of the code, the tests
//! that it names, and the pages generated from the code.

mod architecture;
mod commands;
mod configs;
mod known_bugs;
mod links;
mod pages;
mod reference;
