//! The conditions on each container.

use conductor_net::{LimitVerdict, Limits, seconds, show_age};
use conductor_plugin_api::{Status, config::Duration};
use glob::Pattern;

use crate::engine::ContainerState;

/// The conditions of a config.
pub(crate) struct ContainerRules {
    pub(crate) states: Vec<String>,
    pub(crate) image: Option<Pattern>,
    pub(crate) restarts: Limits<u32>,
    pub(crate) uptime: Limits<Duration>,
    pub(crate) age: Limits<Duration>,
}

impl ContainerRules {
    /// Judges a container; `before` is its number of restarts at the last check, and `now` the Unix time.
    pub(crate) fn judge(
        &self,
        container: &ContainerState,
        before: Option<u32>,
        now: f64,
        verdict: &mut LimitVerdict,
    ) {
        let name = &container.name;
        let mut object = |status, text: String| verdict.add(status, format!("{name} {text}"));
        let state = container.state.as_str();
        let has_ended = matches!(state, "exited" | "dead" | "stopped");
        if !self.states.iter().any(|expected| expected == state) {
            let how = match (has_ended, container.oom_killed) {
                (true, true) => " (killed for lack of memory)".to_owned(),
                (true, false) => format!(" with code {}", container.exit_code),
                (false, _) => String::new(),
            };
            object(
                Status::Unhealthy,
                format!("is {state}{how}, expected {}", self.states.join(" or ")),
            );
        } else if has_ended && container.exit_code != 0 {
            object(
                Status::Unhealthy,
                format!("is {state} with code {}, expected 0", container.exit_code),
            );
        }
        match container.health.as_deref() {
            Some("unhealthy") if container.is_running() => {
                object(Status::Unhealthy, "fails its health check".to_owned());
            }
            Some("starting") if container.is_running() => object(
                Status::Degraded,
                "is starting: its health check did not pass yet".to_owned(),
            ),
            _ => {}
        }
        if let Some(image) = &self.image
            && !image.matches(&container.image)
        {
            object(
                Status::Unhealthy,
                format!("has the image {}, expected {image}", container.image),
            );
        }
        let restarts = container.restarts;
        if let Some(new) = before.and_then(|before| restarts.checked_sub(before))
            && new > 0
        {
            object(
                Status::Degraded,
                format!("was restarted {new} times since the last check"),
            );
        }
        let shown = format!("{name} was restarted {restarts} times");
        verdict.judge("restarts", shown, restarts, &self.restarts);
        // A container of the future is one of this second: the clocks differ.
        let since = |time: Option<f64>| Some(seconds(now - time?));
        if let Some(uptime) = since(container.started).filter(|_| container.is_running()) {
            let shown = format!("{name} runs for {}", show_age(uptime.get()));
            verdict.judge("uptime", shown, uptime, &self.uptime);
        }
        if let Some(age) = since(container.created) {
            let shown = format!("{name} was created {} ago", show_age(age.get()));
            verdict.judge("age", shown, age, &self.age);
        }
    }
}
