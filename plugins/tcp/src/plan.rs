//! Turns a config into a plan that can work, or into all the reasons why it cannot.

use conductor_net::{DurationRules, SocketTarget, StartTls, TlsClient};
use conductor_plugin_api::Failure;
use regex::bytes::{Regex, RegexBuilder};

use crate::{
    config::{ScriptStep, TcpConfig},
    conversation::MAX_ANSWER,
};

/// A valid config.
pub(crate) struct TcpPlan {
    pub(crate) address: SocketTarget,
    pub(crate) tls: Option<TlsClient>,
    pub(crate) starttls: Option<StartTls>,
    pub(crate) steps: Vec<PlannedStep>,
    pub(crate) durations: DurationRules,
}

/// A step of the conversation: waits for `expect`, then sends `send`.
pub(crate) struct PlannedStep {
    pub(crate) expect: Option<ExpectedText>,
    pub(crate) send: Option<String>,
}

/// A pattern, and the text of it in messages.
pub(crate) struct ExpectedText {
    pub(crate) pattern: Regex,
    pub(crate) shown: String,
}

impl TryFrom<TcpConfig> for TcpPlan {
    type Error = Failure;

    /// Refuses a config and reports every wrong key, not only the first.
    fn try_from(config: TcpConfig) -> Result<Self, Failure> {
        let mut faults = Vec::new();
        let address = SocketTarget::parse(&config.address, None)
            .map_err(|rule| faults.push(format!("key `address`: {:?} {rule}", config.address)))
            .ok();
        let tls = tls(&config, address.as_ref(), &mut faults);
        let steps = steps(&config, &mut faults);
        let durations = DurationRules::new(
            config.degraded_after.as_ref(),
            config.unhealthy_after.as_ref(),
            &mut faults,
        );
        match address {
            Some(address) if faults.is_empty() => Ok(Self {
                address,
                tls,
                starttls: config.starttls,
                steps,
                durations,
            }),
            _ => Err(Failure::config(faults.join("; "))),
        }
    }
}

fn tls(
    config: &TcpConfig,
    address: Option<&SocketTarget>,
    faults: &mut Vec<String>,
) -> Option<TlsClient> {
    if config.tls.is_none() && config.starttls.is_none() {
        return None;
    }
    let tls = config.tls.clone().unwrap_or_default();
    match address {
        Some(address) => address.tls_client(&tls, "tcp", faults),
        // The address is refused.
        None => tls.client("tcp").map_err(|found| faults.extend(found)).ok(),
    }
}

fn steps(config: &TcpConfig, faults: &mut Vec<String>) -> Vec<PlannedStep> {
    for (key, text) in [("send", &config.send), ("expect", &config.expect)] {
        if text.as_deref() == Some("") {
            faults.push(format!("key `{key}`: the text is empty; leave the key out"));
        }
        if text.is_some() && !config.script.is_empty() {
            faults.push(format!(
                "key `{key}`: the `script` says what is sent and expected; move the text into it"
            ));
        }
    }
    if let Some(expect) = &config.expect
        && expect.len() > MAX_ANSWER
    {
        faults.push(format!(
            "key `expect`: the text has {} bytes, but only the first {MAX_ANSWER} bytes of a response are searched; shorten it",
            expect.len()
        ));
        return Vec::new();
    }
    if !config.script.is_empty() {
        let planned = config.script.iter().enumerate();
        return planned
            .filter_map(|(nth, step)| planned_step(nth, step, faults))
            .collect();
    }
    let mut steps = Vec::new();
    if let Some(text) = &config.send {
        steps.push(PlannedStep {
            expect: None,
            send: Some(text.clone()),
        });
    }
    if let Some(text) = &config.expect
        && let Ok(pattern) = pattern(&regex::escape(text))
    {
        steps.push(PlannedStep {
            expect: Some(ExpectedText {
                pattern,
                shown: text.clone(),
            }),
            send: None,
        });
    }
    steps
}

fn planned_step(nth: usize, step: &ScriptStep, faults: &mut Vec<String>) -> Option<PlannedStep> {
    if step.expect.is_none() && step.send.is_none() {
        faults.push(format!(
            "key `script[{nth}]`: the step neither expects nor sends; add one of the two, or remove it"
        ));
    }
    let expect = match &step.expect {
        None => None,
        Some(text) => match pattern(text) {
            Ok(pattern) => Some(ExpectedText {
                pattern,
                shown: text.clone(),
            }),
            Err(error) => {
                let reason = error.to_string();
                // The other lines point into the pattern.
                let reason = reason.lines().last().unwrap_or_default();
                faults.push(format!(
                    "key `script[{nth}].expect`: {text:?} is not a regular expression ({reason}); correct it"
                ));
                return None;
            }
        },
    };
    Some(PlannedStep {
        expect,
        send: step.send.clone(),
    })
}

fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).multi_line(true).build()
}
