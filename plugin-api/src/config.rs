//! Types for the keys of a config, in the forms that the host's own config has.
//!
//! ```
//! use conductor_plugin_api::{config::{Duration, Secret, Size}, schemars};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Backup {
//!     /// Greatest age of the file, such as "26h".
//!     max_age: Duration,
//!     /// Least size of the file, such as "10MiB".
//!     min_size: Option<Size>,
//!     /// The password; in the config a text, or { file = "/etc/backup.password" }.
//!     password: Secret,
//! }
//!
//! let config: Backup = serde_json::from_str(r#"{"max_age": "1d 2h", "password": "open sesame"}"#).unwrap();
//! assert_eq!(config.max_age.get(), std::time::Duration::from_secs(26 * 3600));
//! assert_eq!(format!("{:?}", config.password), "(a secret)");
//! assert_eq!(config.password.expose(), "open sesame");
//! ```

mod duration;
mod secret;
mod size;

pub use self::{
    duration::{Duration, DurationError},
    secret::Secret,
    size::{Size, SizeError},
};
