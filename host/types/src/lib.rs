//! Types that several crates share: closed sets of values, and the views and requests of the JSON API.

mod health;
mod labels;
pub mod limits;
pub mod requests;
pub mod views;

pub use self::{health::Health, labels::*};
