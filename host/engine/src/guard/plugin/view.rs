//! A plugin's view for the status page and the API.

use conductor_library::printable;
use conductor_types::views::PluginView;

use super::{PluginGuard, PluginState};
use crate::state::LoadState;

impl PluginGuard {
    /// Returns the view for the status page and the API.
    pub fn view(&self) -> PluginView {
        let inner = self.inner.lock();
        let running = inner.running.as_ref();
        let usage = running.and_then(|running| running.usage);
        let running = running.map(|running| &running.generation);
        PluginView {
            id: self.id.to_string(),
            state: inner.state.name().to_owned(),
            error: match &inner.state {
                LoadState::Failed(error) => Some(error.message.clone()),
                _ => None,
            },
            note: inner.shown_note(),
            version: running.map(|r| r.description().version.clone()),
            api_version: running.map(|r| r.description().api.to_string()),
            isolation: running.map(|r| r.isolation.label().to_owned()),
            generation: running.map(|_| self.generation()),
            pid: running.and_then(|r| r.pid()),
            memory_bytes: usage.map(|usage| usage.memory),
            cpu_seconds: usage.map(|usage| usage.cpu_seconds),
            sha256: running.map(|r| r.vetted.sha256.to_string()),
            file: running.map(|r| printable::path(&r.vetted.origin)),
            stuck_calls: self.metrics.stuck_calls(),
            quarantined: self.is_quarantined(),
            held_in_worker: running.and_then(|r| r.held.clone()),
            unconfined: running.map(|r| r.unconfined().to_vec()).unwrap_or_default(),
        }
    }

    /// Returns the JSON Schema of its config, once loaded; `None` if it is too long to show.
    pub fn config_schema(&self) -> Option<serde_json::Value> {
        let schema = {
            let inner = self.inner.lock();
            let generation = &inner.running.as_ref()?.generation;
            generation.description().config_schema.clone()
        };
        (schema.as_str().len() <= MAX_SHOWN_SCHEMA).then(|| schema.value())
    }
}

impl PluginState {
    fn shown_note(&self) -> Option<String> {
        let stretched = self.stretched.map(|percent| {
            format!(
                "its checks are stretched: it uses {percent:.0} % of the machine's CPU, which is short (limits.cpu_percent caps it)"
            )
        });
        match (&self.note, stretched) {
            (Some(note), Some(stretched)) => Some(format!("{note}; {stretched}")),
            (note, stretched) => stretched.or_else(|| note.clone()),
        }
    }
}

/// The maximum length of a displayed config schema, in bytes.
const MAX_SHOWN_SCHEMA: usize = 128 << 10;
