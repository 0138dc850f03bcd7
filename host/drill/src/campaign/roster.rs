//! The participants of a campaign: the platforms, their plugins, and the config for both.

use std::{fs, path::Path};

use conductor_core::random::SplitMix64;

use super::{
    super::{
        fixtures::Fixtures,
        library_patch::{PatchError, set_identity},
    },
    error::CampaignError,
    faults::{DEADLY, FAILING, LYING, RepeatedFault, SLOW},
};

/// The plugins and platforms of a campaign.
pub(super) struct CampaignRoster {
    pub(super) members: Vec<RosterMember>,
    plugins: Vec<RosterPlugin>,
}

/// One platform.
pub(super) struct RosterMember {
    pub(super) name: String,
    pub(super) plugin: String,
    pub(super) role: PlatformRole,
    /// Seed of its random choices.
    seed: u64,
    /// `true` if its breaker opens after a few failures, as most do outside a campaign.
    has_breaker: bool,
}

/// The role of a platform.
#[derive(Clone, Copy)]
pub(super) enum PlatformRole {
    /// Its plugin never misbehaves, and it must lose nothing.
    Control,
    /// The same, and its plugin's library is replaced while it runs.
    Replaced,
    /// Its plugin's worker is killed and stopped from outside.
    Disrupted,
    /// It commits this fault.
    Faulty(&'static RepeatedFault),
}

/// A copy of a bundled library under another id.
struct RosterPlugin {
    id: String,
    of: BundledLibrary,
}

#[derive(Clone, Copy)]
enum BundledLibrary {
    Fault,
    Disk,
}

impl CampaignRoster {
    /// Returns this many platforms, with faults drawn from `rng`.
    pub(super) fn draw(platforms: usize, rng: &mut SplitMix64) -> Self {
        let mut roster = Self {
            members: Vec::new(),
            plugins: Vec::new(),
        };
        let faulty = (platforms / 12).clamp(2, DEADLY.len());
        let mut deadly = shuffled(DEADLY, rng);
        let mut slow = shuffled(SLOW, rng).into_iter().cycle();
        let mut failing = shuffled(FAILING, rng).into_iter().cycle();
        let mut lying = shuffled(LYING, rng).into_iter().cycle();
        for _ in 0..faulty {
            let plugin = roster.add_plugin(BundledLibrary::Fault, "fs");
            let faults = [deadly.pop(), slow.next(), failing.next(), lying.next()];
            for fault in faults.into_iter().flatten() {
                roster.add(&plugin, PlatformRole::Faulty(fault), rng);
            }
        }
        for _ in 0..DISRUPTED {
            let plugin = roster.add_plugin(BundledLibrary::Fault, "fk");
            for _ in 0..PER_PLUGIN {
                roster.add(&plugin, PlatformRole::Disrupted, rng);
            }
        }
        for _ in 0..REPLACED {
            let plugin = roster.add_plugin(BundledLibrary::Fault, "fr");
            for _ in 0..PER_PLUGIN {
                roster.add(&plugin, PlatformRole::Replaced, rng);
            }
        }
        let control = [
            roster.add_plugin(BundledLibrary::Disk, "d"),
            roster.add_plugin(BundledLibrary::Fault, "fi"),
            roster.add_plugin(BundledLibrary::Disk, "d"),
            roster.add_plugin(BundledLibrary::Fault, "fi"),
        ];
        let mut next = control.iter().cycle();
        while let Some(plugin) = next.next()
            && roster.members.len() < platforms
        {
            roster.add(plugin, PlatformRole::Control, rng);
        }
        roster
    }

    fn add_plugin(&mut self, of: BundledLibrary, prefix: &str) -> String {
        // The id must be as long as that of the library it is a copy of.
        let digits = of.id().len() - prefix.len();
        let id = format!("{prefix}{:0digits$}", self.plugins.len());
        self.plugins.push(RosterPlugin { id: id.clone(), of });
        id
    }

    fn add(&mut self, plugin: &str, role: PlatformRole, rng: &mut SplitMix64) {
        let seed = rng.next_number();
        self.members.push(RosterMember {
            name: format!("p{:03}-{}", self.members.len(), role.name()),
            plugin: plugin.to_owned(),
            role,
            seed,
            has_breaker: matches!(role, PlatformRole::Faulty(_)) && seed.is_multiple_of(5),
        });
    }

    /// Writes every plugin's library into the folder.
    pub(super) fn install(&self, fixtures: &Fixtures, folder: &Path) -> Result<(), CampaignError> {
        for plugin in &self.plugins {
            let library = plugin.library(fixtures, 0)?;
            fs::write(folder.join(plugin.file()), library).map_err(CampaignError::Install)?;
        }
        Ok(())
    }

    /// Returns the file of a plugin, and the library of its `nth` build; no two builds are the same.
    pub(super) fn build(
        &self,
        id: &str,
        fixtures: &Fixtures,
        nth: usize,
    ) -> Result<(String, Vec<u8>), CampaignError> {
        let plugin = self.plugins.iter().find(|plugin| plugin.id == id);
        let plugin = plugin.ok_or_else(|| CampaignError::UnknownPlugin(id.to_owned()))?;
        Ok((plugin.file(), plugin.library(fixtures, nth)?))
    }

    /// Returns the ids of plugins with platforms of a role.
    pub(super) fn plugins_of(&self, has_role: impl Fn(PlatformRole) -> bool) -> Vec<&str> {
        let members = self.members.iter().filter(|member| has_role(member.role));
        let mut ids: Vec<_> = members.map(|member| member.plugin.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// Returns the config, with or without faults; `guests` is the number of temporary platforms.
    pub(super) fn config(&self, folders: (&str, &str), with_faults: bool, guests: usize) -> String {
        let (plugins, state) = folders;
        let mut text = format!(
            "[host]\nplugin_dirs = [\"{plugins}\"]\nstate_dir = \"{state}\"\nisolation = \"process\"\n\
             interval = \"1s\"\nstagger = \"5ms\"\ntimeout = \"500ms\"\nshutdown_grace = \"300ms\"\n\
             metrics_log_after = \"1h\"\n\
             [breaker]\nfailure_threshold = 1_000_000\nreset_timeout = \"300ms\"\nmax_reset_timeout = \"600ms\"\n\
             [metrics]\nseries = \"full\"\n\
             [resources]\ndegraded_above = 100\nrecover_below = 99\ncritical_above = 100\n"
        );
        for id in self.plugins_of(|role| role.is_disturbed()) {
            // One stuck call is enough to replace the worker, and greedy plugins reach their limit soon.
            text.push_str(&format!(
                "[plugin.{id}]\nstuck_limit = 1\nlimits = {{ memory = \"160MiB\", open_files = 64 }}\n"
            ));
        }
        for member in &self.members {
            text.push_str(&member.config(self.is_of_disk(&member.plugin), with_faults));
        }
        let hosts: Vec<_> = self.plugins.iter().rev().map(|p| p.id.as_str()).collect();
        for (nth, plugin) in hosts.iter().cycle().take(guests).enumerate() {
            text.push_str(&format!("[platform.guest-{nth}]\nplugin = \"{plugin}\"\n"));
            if self.is_of_disk(plugin) {
                text.push_str(DISK_CONFIG);
            }
        }
        text
    }

    fn is_of_disk(&self, id: &str) -> bool {
        let plugin = self.plugins.iter().find(|plugin| plugin.id == id);
        plugin.is_some_and(|plugin| matches!(plugin.of, BundledLibrary::Disk))
    }
}

impl RosterMember {
    fn config(&self, is_of_disk: bool, with_faults: bool) -> String {
        let Self { name, plugin, .. } = self;
        let mut text = format!("[platform.{name}]\nplugin = \"{plugin}\"\n");
        if self.role.is_disturbed() {
            text.push_str("interval = \"600ms\"\ntimeout = \"150ms\"\n");
        }
        match self.role {
            PlatformRole::Faulty(fault) if with_faults => {
                text.push_str(&format!("config = {}\n", fault.config(self.seed)));
            }
            _ if is_of_disk => text.push_str(DISK_CONFIG),
            _ => {}
        }
        if self.has_breaker {
            text.push_str("breaker = { failure_threshold = 3 }\n");
        }
        text
    }
}

impl PlatformRole {
    /// Returns `true` if faults of others must cost it nothing.
    pub(super) fn is_control(self) -> bool {
        matches!(self, Self::Control | Self::Replaced)
    }

    fn is_disturbed(self) -> bool {
        !self.is_control()
    }

    fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Replaced => "replaced",
            Self::Disrupted => "disrupted",
            Self::Faulty(fault) => fault.fault,
        }
    }
}

impl RosterPlugin {
    fn file(&self) -> String {
        format!("{}.so", self.id)
    }

    fn library(&self, fixtures: &Fixtures, nth: usize) -> Result<Vec<u8>, PatchError> {
        let mut library = match self.of {
            BundledLibrary::Fault => fixtures.fault.clone(),
            BundledLibrary::Disk => fixtures.control.clone(),
        };
        set_identity(
            &mut library,
            &self.id,
            &format!("Build {nth} of {}", self.id),
        )?;
        Ok(library)
    }
}

impl BundledLibrary {
    /// The id the library was built with.
    fn id(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Disk => "disk",
        }
    }
}

fn shuffled(faults: &'static [RepeatedFault], rng: &mut SplitMix64) -> Vec<&'static RepeatedFault> {
    let mut faults: Vec<_> = faults
        .iter()
        .map(|fault| (rng.next_number(), fault))
        .collect();
    faults.sort_by_key(|(order, _)| *order);
    faults.into_iter().map(|(_, fault)| fault).collect()
}

/// Healthy however full the disk is, which does not matter here.
const DISK_CONFIG: &str =
    "config = { path = \"/\", degraded_above = 100, unhealthy_above = 100 }\n";
/// Number of plugins that are killed and stopped, and number that are replaced.
const DISRUPTED: usize = 2;
const REPLACED: usize = 4;
/// Number of platforms of each of those.
const PER_PLUGIN: usize = 3;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn config(seed: u64) -> String {
        CampaignRoster::draw(200, &mut SplitMix64::new(seed)).config((PLACE, PLACE), true, 5)
    }

    #[test]
    fn the_seed_decides_who_does_what() {
        assert_eq!(config(1), config(1));
        assert_ne!(config(1), config(2));
    }

    #[test]
    fn most_platforms_are_controls_and_no_plugin_mixes_them_with_others() {
        for platforms in [60, 200, 1000] {
            let roster = CampaignRoster::draw(platforms, &mut SplitMix64::new(3));
            assert_eq!(roster.members.len(), platforms);
            let control = roster.members.iter().filter(|m| m.role.is_control());
            assert!(control.count() * 2 > platforms);
            let of = |control| roster.plugins_of(|role| role.is_control() == control);
            let control: BTreeSet<_> = of(true).into_iter().collect();
            assert!(control.is_disjoint(&of(false).into_iter().collect()));
        }
    }

    #[test]
    fn a_plugin_has_one_platform_at_most_whose_faults_end_the_worker() {
        let roster = CampaignRoster::draw(200, &mut SplitMix64::new(4));
        let deadly = |role: PlatformRole| matches!(role, PlatformRole::Faulty(fault) if DEADLY.iter().any(|d| std::ptr::eq(d, fault)));
        let members = roster.members.iter().filter(|m| deadly(m.role));
        assert_eq!(roster.plugins_of(deadly).len(), members.count());
    }

    #[test]
    fn the_config_is_toml_with_every_platform_in_it() {
        let table: toml::Table = config(5).parse().unwrap();
        assert_eq!(table["platform"].as_table().unwrap().len(), 200 + 5);
    }

    #[test]
    fn ids_are_as_long_as_those_of_the_libraries_and_no_two_the_same() {
        let roster = CampaignRoster::draw(200, &mut SplitMix64::new(6));
        let ids: BTreeSet<_> = roster.plugins.iter().map(|plugin| &plugin.id).collect();
        assert_eq!(ids.len(), roster.plugins.len());
        for plugin in &roster.plugins {
            assert_eq!(plugin.id.len(), plugin.of.id().len(), "{}", plugin.id);
        }
    }

    const PLACE: &str = "somewhere";
}
