//! The size of a file: the plugin of the README.

use conductor_plugin_api::{Context, Failure, Probe, Report, export_plugin, schemars};

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct FileSize {
    path: std::path::PathBuf,
}
impl Probe for FileSize {
    type Config = Self;
    fn create(config: Self, _: &Context<'_>) -> Result<Self, Failure> {
        Ok(config)
    }
    fn check(&mut self, _: &Context<'_>) -> Result<Report, Failure> {
        Ok(Report::healthy(format!("{} bytes", std::fs::metadata(&self.path)?.len())))
    }
}
export_plugin! { id: "file-size", probe: FileSize }
