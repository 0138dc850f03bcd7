//! Repetitions of a test without the sandbox, which find undeclared needs.

use std::cmp::Ordering;

use conductor_core::clock::Clock;

use super::{TestProcessEnd, TestRunner};
use crate::validate::{
    child::TestConfinement,
    needs::{self, MissingNeeds, PluginProgress, SandboxEffect},
    verdict::TestVerdict,
};

impl TestRunner<'_> {
    /// Tests if the plugin gets further without the sandbox, and finds the missing needs.
    pub(super) fn needs(&self) -> TestVerdict {
        self.compare().unwrap_or_else(|verdict| verdict)
    }

    fn compare(&self) -> Result<TestVerdict, TestVerdict> {
        let declared = self.scene.declared();
        let held = self.ended(declared.clone())?;
        if held.verdict.untested {
            return Err(held.verdict);
        }
        if held.stage == PluginProgress::Healthy {
            return Ok(TestVerdict::passed(""));
        }
        let free = self.ended(TestConfinement::Free)?;
        let effect = match free.stage.cmp(&held.stage) {
            Ordering::Greater => SandboxEffect::ComesFurther,
            Ordering::Equal if free.said() != held.said() => SandboxEffect::SaysSomethingElse,
            _ => return Ok(no_better(&held)),
        };
        let is_as_good = |ended: &TestProcessEnd| match effect {
            SandboxEffect::ComesFurther => ended.stage >= free.stage,
            SandboxEffect::SaysSomethingElse => ended.said() == free.said(),
        };
        // Repeat it: a difference that comes and goes is no need.
        let again = self.ended(declared)?;
        let is_reproducible = match effect {
            SandboxEffect::ComesFurther => true,
            SandboxEffect::SaysSomethingElse => {
                again.said() == held.said() && is_as_good(&self.ended(TestConfinement::Free)?)
            }
        };
        if is_as_good(&again) || !is_reproducible {
            return Ok(no_better(&held));
        }
        let capabilities = &self.scene.policy.capabilities;
        let lacks = needs::search(capabilities, Clock::start(), &mut |how| {
            let ended = self.ended(how.clone());
            ended.is_ok_and(|ended| is_as_good(&ended))
        });
        if effect == SandboxEffect::SaysSomethingElse && !matches!(lacks, MissingNeeds::Needs(_)) {
            // Another message that no need changes, such as one about the sandbox itself.
            return Ok(no_better(&held));
        }
        Ok(needs::judge(
            effect,
            &lacks,
            &held.verdict.found,
            &free.verdict.found,
            self.platform.config.as_ref(),
            self.scene.language,
        ))
    }

    /// Returns the needs missing at load time, if the library loads without the sandbox.
    pub(super) fn loads_without_the_sandbox(&self, held: &TestVerdict) -> Option<TestVerdict> {
        let works = |how: TestConfinement| {
            let ended = self.ended(how);
            ended.is_ok_and(|ended| !ended.verdict.is_bad())
        };
        if !works(TestConfinement::Free) || works(self.scene.declared()) {
            return None;
        }
        let capabilities = &self.scene.policy.capabilities;
        let lacks = needs::search(capabilities, Clock::start(), &mut |how| works(how.clone()));
        let (config, language) = (self.platform.config.as_ref(), self.scene.language);
        Some(needs::judge(
            SandboxEffect::ComesFurther,
            &lacks,
            &held.found,
            "it loads",
            config,
            language,
        ))
    }

    fn ended(&self, confinement: TestConfinement) -> Result<TestProcessEnd, TestVerdict> {
        Ok(self
            .start(confinement)?
            .end(self.test.limit, self.scene.language))
    }
}

fn no_better(held: &TestProcessEnd) -> TestVerdict {
    let said = &held.verdict.found;
    TestVerdict::passed(format!("no better without the sandbox: {said}"))
}
