//! Types that several crates share: closed sets of values, and the views and requests of the JSON API.

mod labels;
pub mod limits;
mod platform_state;
pub mod requests;
pub mod views;

pub use self::{
    labels::*,
    platform_state::{PlatformState, SoftState, StateUrgency},
};
